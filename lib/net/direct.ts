/** Writes straight into memory that the other side has mapped: riomap(3) and riowrite(3) of rsocket(7). */
import { EventEmitter } from 'node:events';
import { invalidArgument, type RdmaError } from '../errors.ts';
import { bytesOf, checkInteger } from '../verbs/check.ts';
import { Access, type MemoryRegion } from '../verbs/index.ts';
import type { Connection } from './connection.ts';
import { IOMAP_BYTES, protocolError, takeAddr, takeSge } from './wire/index.ts';

/** Memory that the peer has mapped for this side to write to. */
export interface MappedRange {
  /** What the peer calls its first byte. */
  readonly offset: number;
  /** Bytes. */
  readonly length: number;
}

interface PeerRange extends MappedRange {
  readonly addr: number;
  readonly key: number;
}

interface Pending {
  readonly bytes: Uint8Array;
  at: number;
  readonly offset: number;
  readonly resolve: () => void;
  readonly reject: (error: Error) => void;
}

interface RdmaDirectEvents {
  /** The peer has mapped memory. */
  mapped: [range: MappedRange];
}

const littleEndianHost = new Uint8Array(new Uint16Array([1]).buffer)[0] === 1;

/** Memory that the peer may write to, until {@link close}, or until the socket is closed. */
export class RdmaMapping implements MappedRange {
  readonly offset: number;
  readonly length: number;
  readonly #mr: MemoryRegion;
  readonly #closed: () => void;

  /** @internal */
  constructor(mr: MemoryRegion, offset: number, closed: () => void) {
    this.#mr = mr;
    this.offset = offset;
    this.length = mr.length;
    this.#closed = closed;
  }

  /** Ends the registration (riounmap(3)). The peer is not told: a write of its that comes later ends the connection. */
  close(): Promise<void> {
    if (!this.#mr.closed) this.#closed();
    return this.#mr.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

/**
 * Direct writes of a socket; both sides need an `iomapSize`. The side that is written to is not told when bytes come: agree
 * on a message in the stream, which arrives after what was written before it.
 */
export class RdmaDirect extends EventEmitter<RdmaDirectEvents> {
  readonly #ranges: (PeerRange | undefined)[] = [];
  /** What this side has mapped, by its entry of the peer's iomap; undefined while it is being registered. */
  readonly #mappings = new Map<number, RdmaMapping | undefined>();
  readonly #pending: Pending[] = [];
  readonly #sending: Pending[] = [];
  #connection: Connection | undefined;

  /** What the peer has mapped. */
  get ranges(): readonly MappedRange[] {
    return this.#ranges
      .filter((range) => range !== undefined)
      .map(({ offset, length }) => ({ offset, length }));
  }

  /**
   * Lets the peer write to [memory] (riomap(3)).
   *
   * @param offset what its first byte is called; 0 by default
   * @throws RdmaError ENOTCONN; ENOSPC when the peer's iomap is full, or it has none
   */
  async map(memory: ArrayBufferView | ArrayBufferLike, offset = 0): Promise<RdmaMapping> {
    checkInteger('offset', offset, 0, Number.MAX_SAFE_INTEGER);
    const connection = this.#open('map');
    const entries = connection.channel.peer?.iomapEntries ?? 0;
    let index = 0;
    while (this.#mappings.has(index)) index += 1;
    if (index >= entries) {
      throw invalidArgument('ENOSPC', `map: all of the ${entries} entries of the peer's iomap are in use`);
    }
    this.#mappings.set(index, undefined);
    let mapping: RdmaMapping | undefined;
    try {
      const mr = await connection.pd.regMr(memory, Access.LOCAL_WRITE | Access.REMOTE_WRITE);
      mapping = new RdmaMapping(mr, offset, () => this.#mappings.delete(index));
      this.#open('map');
      this.#mappings.set(index, mapping);
      connection.channel.map(index, offset, mr.addr, mr.rkey, mr.length);
      return mapping;
    } catch (error) {
      this.#mappings.delete(index);
      void mapping?.close();
      throw error;
    }
  }

  /**
   * Writes [data] to where the peer calls it [offset] (riowrite(3)). Resolves when it has been sent; it is copied first, so
   * it must stay as it is until then.
   *
   * @throws RdmaError ERR_OUT_OF_RANGE outside of all that the peer has mapped, ENOTCONN, ECONNRESET …
   */
  write(data: ArrayBufferView | ArrayBufferLike, offset: number): Promise<void> {
    const bytes = bytesOf('data', data);
    checkInteger('offset', offset, 0, Number.MAX_SAFE_INTEGER);
    this.#open('write');
    if (bytes.length === 0) return Promise.resolve();
    this.#rangeOf(offset, bytes.length);
    return new Promise((resolve, reject) => {
      this.#pending.push({ bytes, at: 0, offset, resolve, reject });
      this._progress();
    });
  }

  /** @internal */
  _attach(connection: Connection): void {
    this.#connection = connection;
  }

  /** The peer has written the entry [index] of [iomap]. @internal */
  _mapped(index: number, iomap: DataView): void {
    const at = index * IOMAP_BYTES;
    const entry = { addr: 0, key: 0, length: 0 };
    const offset = takeAddr(iomap, at, littleEndianHost);
    takeSge(iomap, at + 8, littleEndianHost, entry);
    if (offset + entry.length > Number.MAX_SAFE_INTEGER) {
      throw protocolError(`a mapped buffer at offset 0x${offset.toString(16)}`);
    }
    this.#ranges[index] = { offset, ...entry };
    process.nextTick(() => this.emit('mapped', { offset, length: entry.length }));
  }

  /** There is room in the send buffer, or something has been sent. @internal */
  _progress(): void {
    const channel = this.#connection?.channel;
    if (channel === undefined || channel.failed) return;
    let added = false;
    for (let write = this.#pending[0]; write !== undefined; write = this.#pending[0]) {
      const start = write.offset + write.at;
      const range = this.#rangeOf(start, write.bytes.length - write.at);
      const count = channel.writeTo(write.bytes, write.at, range.addr + start - range.offset, range.key);
      added ||= count > 0;
      write.at += count;
      if (write.at < write.bytes.length) break;
      this.#pending.shift();
      this.#sending.push(write);
      channel.whenSent(this.#onSent);
    }
    if (added) channel.kick();
  }

  /** One side has closed in order: what is with the transport counts as written, as it does for the stream. @internal */
  _ended(error: RdmaError): void {
    const channel = this.#connection?.channel;
    if (channel?.handedOver === true && (channel.peerGone || !channel.failed)) {
      for (const { resolve } of this.#sending.splice(0)) resolve();
    }
    this._failed(error);
  }

  /** @internal */
  _failed(error: RdmaError): void {
    for (const { reject } of [...this.#pending.splice(0), ...this.#sending.splice(0)]) reject(error);
  }

  /** The connection is gone: nobody writes to what is mapped any more. @internal */
  _closed(): void {
    for (const mapping of this.#mappings.values()) void mapping?.close();
  }

  readonly #onSent = (): void => this.#sending.shift()?.resolve();

  #open(what: string): Connection {
    const connection = this.#connection;
    if (connection === undefined || connection.channel.failed || connection.channel.writeEnded) {
      throw invalidArgument('ENOTCONN', `${what}: the socket is not connected`);
    }
    return connection;
  }

  #rangeOf(offset: number, length: number): PeerRange {
    const found = this.#ranges.find(
      (range) =>
        range !== undefined && offset >= range.offset && offset + length <= range.offset + range.length,
    );
    if (found !== undefined) return found;
    throw invalidArgument(
      'ERR_OUT_OF_RANGE',
      `offset ${offset}: ${length} bytes there are not all in one buffer that the peer has mapped`,
    );
  }
}
