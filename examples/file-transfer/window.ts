/** Bookkeeping of chunks in flight: a fixed set of slots handed out first come first served, and turns in order. */

/** A fixed set of things in use one at a time each. */
export class Window<T> {
  readonly #free: T[];
  readonly #waiting: { resolve: (slot: T) => void; reject: (error: Error) => void }[] = [];
  #failure: Error | undefined;

  constructor(slots: readonly T[]) {
    this.#free = [...slots];
  }

  /** Slots nobody holds. */
  get free(): number {
    return this.#free.length;
  }

  /** Resolves with a free slot, in the order of the calls. Rejects when the window fails. */
  take(): Promise<T> {
    if (this.#failure) return Promise.reject(this.#failure);
    const slot = this.#free.pop();
    if (slot !== undefined) return Promise.resolve(slot);
    return new Promise((resolve, reject) => this.#waiting.push({ resolve, reject }));
  }

  /** Gives a slot back, to the one who waits longest. */
  release(slot: T): void {
    const next = this.#waiting.shift();
    if (next) next.resolve(slot);
    else this.#free.push(slot);
  }

  /** Rejects everyone who waits and whoever comes later. */
  fail(error: Error): void {
    this.#failure ??= error;
    for (const { reject } of this.#waiting.splice(0)) reject(this.#failure);
  }
}

/** Runs steps in the order of their offsets, although they become ready in any order. */
export class Turns {
  #next: number;
  #failure: Error | undefined;
  readonly #waiting = new Map<number, { resolve: () => void; reject: (error: Error) => void }>();

  constructor(start = 0) {
    this.#next = start;
  }

  /** The offset whose turn it is. */
  get next(): number {
    return this.#next;
  }

  /** Resolves when everything before `offset` is done. One waiter per offset. */
  async wait(offset: number): Promise<void> {
    if (this.#failure) throw this.#failure;
    if (offset === this.#next) return;
    await new Promise<void>((resolve, reject) => this.#waiting.set(offset, { resolve, reject }));
  }

  /** Says that the step at {@link next} is done and the one at `offset` may run. */
  advance(offset: number): void {
    this.#next = offset;
    const waiting = this.#waiting.get(offset);
    this.#waiting.delete(offset);
    waiting?.resolve();
  }

  /** Rejects everyone who waits and whoever comes later. */
  fail(error: Error): void {
    this.#failure ??= error;
    for (const { reject } of this.#waiting.values()) reject(this.#failure);
    this.#waiting.clear();
  }
}
