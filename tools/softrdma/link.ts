/** Faults of the cable between two machines. The guest's `softrdma-link` (`guest/link.sh`) makes them. */
import { SoftRdmaError } from './errors.ts';
import type { GuestProcess } from './process.ts';

/** A machine's RDMA devices. */
export type DeviceName = 'rxe0' | 'siw0';

/** What befalls the frames that a device sends. */
export interface LinkDisturbance {
  /** Percentage of frames lost, 0 to 100. */
  loss?: number | undefined;
  /** Milliseconds by which each frame is late. */
  delay?: number | undefined;
}

/**
 * `'down'` and `'up'` are the link's state; `'clear'` ends every fault. A disturbance takes the place of the previous
 * one and acts on what this machine sends; disturb both for both directions.
 */
export type LinkFault = 'down' | 'up' | 'clear' | LinkDisturbance;

/** The arguments of `softrdma-link`. Throws `ERR_SOFTRDMA_ARGUMENT` for a disturbance that disturbs nothing. */
export function linkArguments(device: DeviceName, fault: LinkFault): string[] {
  if (typeof fault === 'string') return [device, fault];
  const args: string[] = [device];
  if (fault.loss !== undefined) args.push('loss', String(fault.loss));
  if (fault.delay !== undefined) args.push('delay', `${fault.delay}ms`);
  if (args.length === 1) {
    throw new SoftRdmaError('ERR_SOFTRDMA_ARGUMENT', "give loss (percent), delay (milliseconds), or 'clear'");
  }
  return args;
}

/** Waits for `softrdma-link` and turns its complaint into an error. */
export async function linkResult(guest: GuestProcess): Promise<void> {
  let complaint = '';
  guest.stdout.resume();
  guest.stderr.setEncoding('utf8').on('data', (text: string) => {
    complaint += text;
  });
  guest.stdin.end();
  const { status } = await guest.exited;
  if (status !== 0) throw new SoftRdmaError('ERR_SOFTRDMA_ARGUMENT', complaint.trim() || `status ${status}`);
}
