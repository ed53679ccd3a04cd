/** The sending side's books: the peer's credits and its receive buffers, which it writes into this side's target SGL. */
import { protocolError } from '../wire/errors.ts';
import { SGE_BYTES, SGL_ENTRIES, type SgeFields, sgeLength, takeSge } from '../wire/index.ts';

/** @internal */
export class SendWindow {
  /** This side's target SGL, which the peer writes to at any time. */
  readonly #sgl: DataView;
  readonly #littleEndian: boolean;
  readonly #credits: number;
  /** Credits that are left for the peer's receive queue to hold control messages. */
  readonly #spare: number;
  readonly #current: SgeFields;
  readonly #next: SgeFields = { addr: 0, key: 0, length: 0 };
  /** Entry of the target SGL that the peer writes next; the first was filled by the connection data. */
  #entry = 1;
  #sent = 0;
  #limit: number;

  /**
   * @param sgl entries of this side's target SGL, all zero
   * @param littleEndian this host's byte order
   * @param first the peer's first receive buffer
   * @param spare credits that are not to be used
   */
  constructor(
    sgl: DataView,
    littleEndian: boolean,
    credits: number,
    first: Readonly<SgeFields>,
    spare: number,
  ) {
    this.#sgl = sgl;
    this.#littleEndian = littleEndian;
    this.#credits = credits;
    this.#spare = Math.min(spare, credits >>> 1);
    this.#limit = credits;
    this.#current = { addr: first.addr, key: first.key, length: first.length };
  }

  /** Bytes that one message may carry now; 0 without credits or without a buffer. */
  get room(): number {
    return ((this.#limit - this.#sent) & 0xffff) > this.#spare ? this.#current.length : 0;
  }

  /** Where the next message goes. */
  get addr(): number {
    return this.#current.addr;
  }

  get key(): number {
    return this.#current.key;
  }

  /** Takes note of a data message of [bytes], at most {@link room}. */
  sent(bytes: number): void {
    this.takeCredit();
    const current = this.#current;
    current.addr += bytes;
    current.length -= bytes;
    if (current.length === 0) this.#promote();
  }

  /** Takes note of a message that needs a credit and no buffer. */
  takeCredit(): void {
    this.#sent = (this.#sent + 1) & 0xffff;
  }

  /** Whether there is a credit. */
  get hasCredit(): boolean {
    return ((this.#limit - this.#sent) & 0xffff) > this.#spare;
  }

  /**
   * The peer grants credits up to the message [limit].
   *
   * @param sgl whether it may have written its target SGL
   * @throws RdmaError EPROTO for credits that its receive queue does not have, or buffers beyond all addresses
   */
  granted(limit: number, sgl: boolean): void {
    const value = limit & 0xffff;
    const ahead = (value - this.#sent) & 0xffff;
    const gained = (value - this.#limit) & 0xffff;
    if (ahead > this.#credits || gained > this.#credits) {
      throw protocolError(`credits for ${ahead} messages, of a receive queue of ${this.#credits}`);
    }
    this.#limit = value;
    if (sgl) this.#look();
  }

  /** Takes the entry that the peer has written, if it has. It writes one again only after it has been used up. */
  #look(): void {
    if (this.#next.length !== 0) return;
    const offset = this.#entry * SGE_BYTES;
    if (sgeLength(this.#sgl, offset, this.#littleEndian) === 0) return;
    takeSge(this.#sgl, offset, this.#littleEndian, this.#next);
    this.#sgl.setUint32(offset + 12, 0);
    this.#entry = (this.#entry + 1) % SGL_ENTRIES;
    if (this.#current.length === 0) this.#promote();
  }

  #promote(): void {
    const { addr, key, length } = this.#next;
    this.#current.addr = addr;
    this.#current.key = key;
    this.#current.length = length;
    this.#next.length = 0;
  }
}
