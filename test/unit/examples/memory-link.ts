/** Two ends of a {@link Link} in one process, without a device: for tests of what runs above it. */
import type { Limits } from '../../../examples/file-transfer/hello.ts';
import type { Exposure, Link, RemoteMemory, SlotMemory } from '../../../examples/file-transfer/link.ts';
import { newCounters } from '../../../lib/dma/counters.ts';

interface Region {
  addr: number;
  bytes: Buffer;
  exposure: Exposure;
}

let nextAddr = 0x10000;
let nextKey = 1;

export class MemoryLink implements Link {
  readonly lost: Promise<Error>;
  readonly limits: Limits;
  readonly peer: string;
  readonly counters = newCounters();
  /** Slots that are allocated now. */
  regions = new Map<number, Region>();
  /** Called before every RDMA operation; a throw fails the connection as a bad work completion does. */
  beforeRdma: (kind: 'read' | 'write', bytes: Buffer) => void | Promise<void> = () => {};
  /** Called after every RDMA WRITE with the bytes as they arrived. */
  afterWrite: (arrived: Buffer) => void = () => {};
  other!: MemoryLink;
  reason: Error | undefined;
  #resolveLost!: (reason: Error) => void;
  #handler: ((bytes: Buffer) => void) | undefined;
  #early: Buffer[] = [];
  #order: Promise<void> = Promise.resolve();

  private constructor(peer: string, limits: Limits) {
    this.peer = peer;
    this.limits = limits;
    this.lost = new Promise((resolve) => {
      this.#resolveLost = resolve;
    });
  }

  static pair(limits: Limits): [MemoryLink, MemoryLink] {
    const [client, server] = [new MemoryLink('server', limits), new MemoryLink('client', limits)];
    client.other = server;
    server.other = client;
    return [client, server];
  }

  onMessage(handler: (bytes: Buffer) => void): void {
    this.#handler = handler;
    for (const bytes of this.#early.splice(0)) handler(bytes);
  }

  /** Operations of one end take effect in order, as on a queue pair. */
  #post(operation: () => void | Promise<void>): Promise<void> {
    if (this.reason) return Promise.reject(this.reason);
    const done = this.#order.then(async () => {
      await new Promise(setImmediate);
      if (this.reason) throw this.reason;
      await operation();
    });
    this.#order = done.catch((error: Error) => this.close(error));
    return done;
  }

  send(message: Buffer): Promise<void> {
    const copy = Buffer.from(message);
    return this.#post(() => {
      if (this.other.reason) return;
      if (this.other.#handler) this.other.#handler(copy);
      else this.other.#early.push(copy);
    });
  }

  read(local: Buffer, remote: RemoteMemory): Promise<void> {
    return this.#post(async () => {
      await this.beforeRdma('read', local);
      this.#reach(remote, local.length, 'peerReads').copy(local);
    });
  }

  write(local: Buffer, remote: RemoteMemory): Promise<void> {
    return this.#post(async () => {
      await this.beforeRdma('write', local);
      const target = this.#reach(remote, local.length, 'peerWrites');
      local.copy(target);
      this.afterWrite(target);
    });
  }

  #reach({ addr, rkey }: RemoteMemory, length: number, exposure: Exposure): Buffer {
    const region = this.other.regions.get(rkey);
    if (
      !region ||
      region.exposure !== exposure ||
      addr < region.addr ||
      addr + length > region.addr + region.bytes.length
    ) {
      throw new Error('REM_ACCESS_ERR');
    }
    return region.bytes.subarray(addr - region.addr, addr - region.addr + length);
  }

  async allocSlots(count: number, slotBytes: number, exposure: Exposure): Promise<SlotMemory> {
    const rkey = nextKey++;
    const region = { addr: nextAddr, bytes: Buffer.alloc(count * slotBytes), exposure };
    nextAddr += region.bytes.length + 4096;
    this.regions.set(rkey, region);
    const slots = Array.from({ length: count }, (_, i) => ({
      bytes: region.bytes.subarray(i * slotBytes, (i + 1) * slotBytes),
      addr: region.addr + i * slotBytes,
      rkey,
    }));
    return {
      slots,
      close: async () => {
        this.regions.delete(rkey);
      },
    };
  }

  async close(reason: Error = new Error('closed')): Promise<void> {
    if (this.reason) return;
    this.reason = reason;
    this.#resolveLost(reason);
    await this.other.close(new Error('the peer closed the connection'));
  }
}
