/** Bytes that wait to be sent and bytes that are being sent: a ring of registered memory, filled and freed in order. */

/** @internal */
export class SendBuffer {
  readonly #memory: Uint8Array;
  readonly #addr: number;
  #free: number;
  #fillAt = 0;
  #sendAt = 0;
  /** Bytes that were ever put in, and that were ever released. */
  #filled = 0;
  #released = 0;
  readonly #waiting: { readonly bytes: number; readonly sent: () => void }[] = [];

  /** @param addr of the first byte of [memory], for the device */
  constructor(memory: Uint8Array, addr: number) {
    this.#memory = memory;
    this.#addr = addr;
    this.#free = memory.length;
  }

  /** Bytes that can be put in. */
  get free(): number {
    return this.#free;
  }

  /** True when nothing waits and nothing is being sent. */
  get empty(): boolean {
    return this.#free === this.#memory.length;
  }

  /** Copies what there is room for of [bytes], from [from] on. @returns how many bytes */
  put(bytes: Uint8Array, from: number): number {
    const count = Math.min(this.#free, bytes.length - from);
    const inRow = Math.min(count, this.#memory.length - this.#fillAt);
    const whole = from === 0 && inRow === bytes.length;
    this.#memory.set(whole ? bytes : bytes.subarray(from, from + inRow), this.#fillAt);
    if (count > inRow) this.#memory.set(bytes.subarray(from + inRow, from + count), 0);
    this.#fillAt = (this.#fillAt + count) % this.#memory.length;
    this.#free -= count;
    this.#filled += count;
    return count;
  }

  /** How many of the next [count] bytes lie in a row. */
  inRow(count: number): number {
    return Math.min(count, this.#memory.length - this.#sendAt);
  }

  /** Address of the next byte to be sent. */
  get sendAddr(): number {
    return this.#addr + this.#sendAt;
  }

  /** Takes note that [count] bytes are being sent. */
  sent(count: number): void {
    this.#sendAt = (this.#sendAt + count) % this.#memory.length;
  }

  /** [count] bytes have been sent: their room is free again. */
  release(count: number): void {
    this.#free += count;
    this.#released += count;
    while (this.#waiting[0] !== undefined && this.#waiting[0].bytes <= this.#released) {
      this.#waiting.shift()?.sent();
    }
  }

  /** Calls [sent] when all that is in now has been released. */
  whenSent(sent: () => void): void {
    this.#waiting.push({ bytes: this.#filled, sent });
  }
}
