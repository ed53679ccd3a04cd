/** The Connect command and the properties of controllers: NVMe Base Specification, 3.1.4 and 6.3. */
import type { Command } from './command.ts';
import { textAt } from './fields.ts';

export const CONNECT_DATA_BYTES = 1024;
export const DISCOVERY_NQN = 'nqn.2014-08.org.nvmexpress.discovery';
/** Any controller: what a host asks for when it connects an admin queue. */
export const DYNAMIC_CONTROLLER = 0xffff;

/** What a Connect command says. */
export interface ConnectRequest {
  readonly recordFormat: number;
  readonly qid: number;
  /** Entries of the queue, less one. */
  readonly sqSize: number;
  /** The responses need not tell the head of the queue. */
  readonly noFlowControl: boolean;
  /** Milliseconds; 0 for none. */
  readonly keepAlive: number;
  readonly hostId: string;
  readonly cntlid: number;
  readonly subsystemNqn: string;
  readonly hostNqn: string;
}

export function decodeConnect(command: Command, data: Uint8Array): ConnectRequest {
  const view = new DataView(data.buffer, data.byteOffset, CONNECT_DATA_BYTES);
  return {
    recordFormat: command.u16(40),
    qid: command.u16(42),
    sqSize: command.u16(44),
    noFlowControl: (command.u8(46) & 0x04) !== 0,
    keepAlive: command.dword(12),
    hostId: Buffer.from(data.subarray(0, 16)).toString('hex'),
    cntlid: view.getUint16(16, true),
    subsystemNqn: textAt(data, 256, 256),
    hostNqn: textAt(data, 512, 256),
  };
}

/** Where a parameter of Connect is wrong, for the completion: [offset] in the command, or in its data. */
export function invalidParameter(offset: number, where: 'command' | 'data'): number {
  return offset | (where === 'data' ? 1 << 16 : 0);
}

/** Offsets of properties. */
export const Property = { CAP: 0x00, VS: 0x08, CC: 0x14, CSTS: 0x1c } as const;

/** Controller configuration. */
export const Cc = {
  ENABLE: 1 << 0,
  SHUTDOWN: 3 << 14,
} as const;

/** Controller status. */
export const Csts = { READY: 1 << 0, SHUTDOWN_COMPLETE: 2 << 2 } as const;

/** Capabilities, low and high half; [depth] is that of I/O queues. */
export function capabilities(depth: number): { low: number; high: number } {
  const contiguousQueues = 1 << 16;
  const readyWithin15Seconds = 30 << 24;
  const nvmCommandSet = 1 << 5;
  return { low: (depth - 1) | contiguousQueues | readyWithin15Seconds, high: nvmCommandSet };
}
