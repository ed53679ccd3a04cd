/** `--device host`: the command runs right here, on the RDMA devices that this machine has. */
import { spawn } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { constants } from 'node:os';
import { SoftRdmaError } from './errors.ts';

const DEVICES = '/sys/class/infiniband';

/** The names of this host's own RDMA devices. */
export function hostDevices(dir: string = DEVICES): string[] {
  try {
    return readdirSync(dir).sort();
  } catch {
    return [];
  }
}

/** Runs a command on this host and resolves to its exit status. Throws `ERR_SOFTRDMA_HOST` where there is no device. */
export async function runOnHost(
  command: readonly string[],
  timeout?: number,
  devices: readonly string[] = hostDevices(),
): Promise<number> {
  if (devices.length === 0) {
    throw new SoftRdmaError(
      'ERR_SOFTRDMA_HOST',
      `this machine has no RDMA device (${DEVICES} is empty). Load its driver, make a soft one as root with ` +
        '"rdma link add rxe0 type rxe netdev <netdev>", or leave out --device host.',
    );
  }
  const [file, ...args] = command as [string, ...string[]];
  const child = spawn(file, args, { stdio: 'inherit' });
  let timedOut = false;
  const timer =
    timeout &&
    setTimeout(() => {
      timedOut = true;
      child.kill('SIGTERM');
      setTimeout(() => child.kill('SIGKILL'), 5000).unref();
    }, timeout * 1000);
  const forward = (signal: NodeJS.Signals) => child.kill(signal);
  process.on('SIGINT', forward).on('SIGTERM', forward).on('SIGHUP', forward);
  try {
    return await new Promise<number>((resolve, reject) => {
      child.on('error', (cause: NodeJS.ErrnoException) => {
        const errno = cause.errno === undefined ? 0 : -cause.errno;
        reject(
          new SoftRdmaError('ERR_SOFTRDMA_SPAWN', `cannot run ${file}: ${cause.message}`, { cause, errno }),
        );
      });
      child.on('exit', (status, signal) => {
        resolve(timedOut ? 124 : (status ?? 128 + constants.signals[signal!]));
      });
    });
  } finally {
    clearTimeout(timer || undefined);
    process.off('SIGINT', forward).off('SIGTERM', forward).off('SIGHUP', forward);
  }
}
