/** What the queues of one device share: its protection domain, registered memory, and a limit of the data in flight. */
import { Arena, type Device, MrCache, type ProtectionDomain } from '../../lib/index.ts';
import type { Taken } from './request.ts';

/** Memory namespaces stay registered, whatever their size. */
const PIN_BUDGET = 2 ** 40;

interface Waiter {
  readonly bytes: number;
  readonly go: () => void;
}

/** One for each RDMA device. */
export class DeviceMemory {
  readonly device: Device;
  readonly pd: ProtectionDomain;
  readonly arena: Arena;
  readonly cache: MrCache;
  readonly #limit: number;
  readonly #waiters: Waiter[] = [];
  #used = 0;

  /** @param limit bytes of data that commands may have in memory at the same time; more of them wait */
  constructor(device: Device, limit: number) {
    this.device = device;
    this.pd = device.allocPd();
    this.arena = Arena.for(this.pd);
    this.cache = new MrCache(this.pd, { pinBudget: PIN_BUDGET });
    this.#limit = limit;
  }

  /** Memory for the data of a command, first come, first served. */
  async take(bytes: number): Promise<Taken> {
    if (this.#waiters.length > 0 || (this.#used > 0 && this.#used + bytes > this.#limit)) {
      await new Promise<void>((go) => {
        this.#waiters.push({ bytes, go });
      });
    } else {
      this.#used += bytes;
    }
    try {
      const block = await this.arena.alloc(bytes);
      const release = (): void => {
        block.free();
        this.#giveBack(bytes);
      };
      return { bytes: block.bytes, release };
    } catch (error) {
      this.#giveBack(bytes);
      throw error;
    }
  }

  #giveBack(bytes: number): void {
    this.#used -= bytes;
    for (;;) {
      const next = this.#waiters[0];
      if (next === undefined || (this.#used > 0 && this.#used + next.bytes > this.#limit)) return;
      this.#waiters.shift();
      this.#used += next.bytes;
      next.go();
    }
  }

  async close(): Promise<void> {
    await this.pd.close();
  }
}
