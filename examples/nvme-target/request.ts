/** A command being carried out, as the NVMe side sees it: nothing here knows of RDMA. */
import type { Controller } from './controller.ts';
import type { Command } from './wire/command.ts';

/** A queue of a host: submission and completion queue in one, on one connection. */
export interface HostQueue {
  /** As the connection said; the Connect command must say the same. */
  readonly qid: number;
  /** Address of the host. */
  readonly host: string;
  /** Set by the Connect command. */
  readonly controller: Controller | undefined;
  /** Ends the unconnected state of the queue. */
  install(controller: Controller, entries: number, noFlowControl: boolean): void;
  /** Ends the connection. */
  close(): void;
}

/** Data of a command, in memory of this side. */
export interface Taken {
  readonly bytes: Uint8Array;
  /** Call it once when the bytes have been used. */
  release(): void;
}

export interface Request {
  readonly command: Command;
  readonly queue: HostQueue;
  /** @throws NvmeError unless the command's SGL describes exactly [bytes] bytes */
  expect(bytes: number): void;
  /** As {@link expect}, where hosts may describe more than the command uses. */
  expectAtLeast(bytes: number): void;
  /** The command's data, from the host, in memory of its own. [bytes] has been expected. */
  take(bytes: number): Promise<Taken>;
  /** The command's data, from the host, to where it belongs. The sum of the lengths has been expected. */
  takeInto(views: readonly Uint8Array[]): Promise<void>;
  /** Memory for data that goes to the host. */
  alloc(bytes: number): Promise<Taken>;
}

/** How a command ends. */
export interface Reply {
  /** SUCCESS by default. */
  readonly status?: number;
  /** First and second dword of the completion. */
  readonly result?: number;
  readonly resultHigh?: number;
  /** What goes to the host's memory first. Its length has been expected. */
  readonly data?: Uint8Array | readonly Uint8Array[];
  /** The data's memory will be used again: register it to stay. */
  readonly inPlace?: boolean;
  /** Called when the data has gone, or never will. */
  readonly release?: () => void;
}

export const SUCCESS: Reply = {};
