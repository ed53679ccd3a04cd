/** One namespace of a subsystem: a backend in blocks. */
import type { Backend } from './backend.ts';
import { NvmeError, Status } from './wire/status.ts';

export class Namespace {
  readonly nsid: number;
  readonly backend: Backend;
  readonly blockBytes: number;
  readonly blocks: number;

  constructor(nsid: number, backend: Backend, blockBytes: number) {
    if (blockBytes < 512 || blockBytes > 4096 || !Number.isInteger(Math.log2(blockBytes))) {
      throw new RangeError(`the block size must be 512, 1024, 2048 or 4096 bytes, not ${blockBytes}`);
    }
    if (backend.bytes < blockBytes) throw new RangeError(`${backend.name} is shorter than one block`);
    this.nsid = nsid;
    this.backend = backend;
    this.blockBytes = blockBytes;
    this.blocks = Math.floor(backend.bytes / blockBytes);
  }

  /** Bytes from the start of the backend. @throws NvmeError LBA_OUT_OF_RANGE unless all of the range is there */
  offsetOf(slba: number, count: number): number {
    if (slba + count > this.blocks) {
      throw new NvmeError(
        Status.LBA_OUT_OF_RANGE,
        `blocks ${slba} to ${slba + count - 1} of ${this.blocks} of namespace ${this.nsid}`,
      );
    }
    return slba * this.blockBytes;
  }
}
