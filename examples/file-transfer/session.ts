/** The server's side of one connection: checks each request, moves the data, answers. */
import { bufferSource, fileSource, readFully, type Source, TransferHash, writeFully } from './content.ts';
import { type Link, LostError, type Slot, type SlotMemory, Watchdog } from './link.ts';
import { PartFile } from './part-file.ts';
import { fileError, listBelow, openBelow, resolveTarget } from './paths.ts';
import {
  type Chunk,
  type Close,
  decodeRequest,
  encodeResponse,
  type OpenGet,
  type OpenList,
  type OpenPut,
  ProtocolError,
  type Request,
  type Response,
  Status,
  TransferError,
} from './protocol.ts';
import { Turns, Window } from './window.ts';

/** Settings of a session. */
export interface SessionOptions {
  /** Real path of the served directory. */
  root: string;
  /** A client silent for so long is given up, milliseconds. */
  timeoutMs: number;
  /** Whether a file is on the disk before the client is told that it arrived. */
  sync: boolean;
  /** Told about every finished transfer and every failure, for the log. */
  log: (text: string) => void;
}

/** The file that a client has open. */
interface Transfer {
  readonly name: string;
  readonly size: number;
  readonly hash: TransferHash;
  readonly turns: Turns;
  /** Where the data come from (get) or go to (put): one of the two is set. */
  readonly source: Source | undefined;
  readonly part: PartFile | undefined;
  /** The hash of the whole, once everything has passed. */
  sha256: Promise<Buffer> | undefined;
  /** First byte not asked for yet. */
  next: number;
  /** Chunks being worked on. */
  readonly active: Set<Promise<void>>;
  failure: TransferError | undefined;
}

/** Serves one connection until it ends. */
export class Session {
  readonly #link: Link;
  readonly #options: SessionOptions;
  readonly #memory: SlotMemory;
  readonly #window: Window<Slot>;
  readonly #watchdog: Watchdog;
  #transfer: Transfer | undefined;
  #control: Promise<void> | undefined;
  #chunks = 0;
  #refused = false;

  private constructor(link: Link, options: SessionOptions, memory: SlotMemory) {
    this.#link = link;
    this.#options = options;
    this.#memory = memory;
    this.#window = new Window(memory.slots);
    this.#watchdog = new Watchdog(options.timeoutMs, (silentMs) => {
      void link.close(new LostError(`the client said nothing for ${silentMs} ms; it is taken for dead`));
    });
  }

  /** Serves a connection. Resolves when it has ended and nothing of it is left. Never rejects. */
  static async run(link: Link, options: SessionOptions): Promise<void> {
    const { chunkBytes, depth } = link.limits;
    const memory = await link.allocSlots(Math.max(depth, 2), chunkBytes, 'none');
    const session = new Session(link, options, memory);
    link.onMessage((bytes) => session.#receive(bytes));
    await session.#end(await link.lost);
  }

  async #end(reason: Error): Promise<void> {
    this.#watchdog.stop();
    this.#window.fail(reason);
    const { log } = this.#options;
    if (this.#transfer) log(`${this.#link.peer}: ${this.#transfer.name}: given up: ${reason.message}`);
    this.#transfer?.turns.fail(reason);
    await this.#control;
    await this.#discard();
    await this.#memory.close();
  }

  #receive(bytes: Buffer): void {
    this.#watchdog.heard();
    if (this.#refused) return;
    try {
      this.#dispatch(decodeRequest(bytes));
    } catch (error) {
      void this.#refuse(error as ProtocolError);
    }
  }

  /** Answers a broken message and ends the connection: whatever follows could not be trusted. */
  async #refuse(error: ProtocolError): Promise<void> {
    this.#refused = true;
    this.#options.log(`${this.#link.peer}: refused: ${error.message}`);
    await this.#answer({ tag: error.tag, status: error.status, text: error.message });
    await this.#link.close(error);
  }

  #answer(response: Partial<Response> & { tag: number; status: number }): Promise<void> {
    // A failed SEND ends the connection, and the end of the connection is handled in one place.
    return this.#link.send(encodeResponse(response)).catch(() => {});
  }

  #dispatch(request: Request): void {
    switch (request.kind) {
      case 'keepAlive':
        void this.#answer({ tag: request.tag, status: Status.OK });
        return;
      case 'getChunk':
      case 'putChunk':
        this.#startChunk(request);
        return;
      default:
        if (this.#control)
          throw new ProtocolError('second open, close or abort before the first was answered', request.tag);
        this.#control = this.#answerControl(request);
    }
  }

  async #answerControl(request: Exclude<Request, Chunk | { kind: 'keepAlive' }>): Promise<void> {
    let response: Partial<Response>;
    try {
      response = await this.#runControl(request);
    } catch (error) {
      const { status, message } = fileError(
        'name' in request ? request.name : (this.#transfer?.name ?? ''),
        error,
      );
      response = { status, text: message };
      if (request.kind === 'close') await this.#discard();
    }
    // The client may send the next request as soon as it has this answer.
    this.#control = undefined;
    await this.#answer({ tag: request.tag, status: Status.OK, ...response });
  }

  #runControl(request: Exclude<Request, Chunk | { kind: 'keepAlive' }>): Promise<Partial<Response>> {
    switch (request.kind) {
      case 'abort':
        return this.#discard().then(() => ({}));
      case 'close':
        return this.#close(request);
      default:
        return this.#open(request);
    }
  }

  async #open(request: OpenGet | OpenPut | OpenList): Promise<Partial<Response>> {
    if (this.#transfer) {
      throw new TransferError(
        Status.STATE,
        `${JSON.stringify(this.#transfer.name)} is still open; close or abort it first`,
      );
    }
    const { root } = this.#options;
    const common = { turns: new Turns(), next: 0, active: new Set<Promise<void>>() };
    const unset = { failure: undefined, sha256: undefined };
    if (request.kind === 'openPut') {
      const { name, size } = request;
      const part = await PartFile.create(await resolveTarget(root, name));
      const hash = new TransferHash(request.hash);
      this.#transfer = { ...common, ...unset, name, size, hash, source: undefined, part };
      return { size };
    }
    const list = request.kind === 'openList';
    const source = list
      ? bufferSource(Buffer.from(JSON.stringify(await listBelow(root))))
      : await fileSource(await openBelow(root, request.name));
    const hash = new TransferHash(list ? 'during' : request.hash);
    const name = list ? 'list of files' : request.name;
    this.#transfer = { ...common, ...unset, name, size: source.size, hash, source, part: undefined };
    return { size: source.size };
  }

  async #close(request: Close): Promise<Partial<Response>> {
    const transfer = this.#transfer;
    if (!transfer) throw new TransferError(Status.STATE, 'close without an open file');
    // The answer to the last chunk may reach the client before this end has seen its WRITE complete.
    if (transfer.next === transfer.size) await Promise.all(transfer.active);
    if (transfer.failure) throw transfer.failure;
    if (transfer.next !== transfer.size) {
      throw new TransferError(
        Status.STATE,
        `close at ${transfer.next} of ${transfer.size} bytes; abort to give up`,
      );
    }
    const { name, size, source, part } = transfer;
    const sha256 = await this.#digest(transfer);
    await source?.checkUnchanged();
    if (!sha256.equals(request.sha256)) {
      throw new TransferError(
        Status.HASH,
        `${JSON.stringify(name)}: SHA-256 differs: server ${sha256.toString('hex')}, client ${request.sha256.toString('hex')}`,
      );
    }
    if (part) await part.commit(this.#options.sync);
    await source?.close();
    this.#transfer = undefined;
    this.#options.log(
      `${this.#link.peer}: ${part ? 'put' : 'get'} ${name}: ${size} bytes, ${sha256.toString('hex')}`,
    );
    return { sha256, size };
  }

  /** The hash of a transfer whose chunks are all done, so that the slots are free to read into. Computed once. */
  #digest(transfer: Transfer): Promise<Buffer> {
    if (transfer.sha256) return transfer.sha256;
    const { source, part } = transfer;
    const read = source ? source.read : (into: Buffer, at: number) => readFully(part!.handle, into, at);
    const [one, two] = this.#memory.slots;
    transfer.sha256 = transfer.hash.digest(transfer.size, read, [one!.bytes, two!.bytes]);
    return transfer.sha256;
  }

  /** Gives up the open transfer, if any, when its last chunk is done with. */
  async #discard(): Promise<void> {
    const transfer = this.#transfer;
    if (!transfer) return;
    transfer.turns.fail(new TransferError(Status.STATE, 'the transfer was given up'));
    await Promise.all(transfer.active);
    await transfer.sha256?.catch(() => {});
    await transfer.part?.discard();
    await transfer.source?.close();
    this.#transfer = undefined;
  }

  #startChunk(request: Chunk): void {
    const { tag, offset, length } = request;
    const { chunkBytes, depth } = this.#link.limits;
    if (this.#chunks >= depth)
      throw new ProtocolError(`more than ${depth} chunks outstanding, the agreed limit`, tag);
    if (length > chunkBytes)
      throw new ProtocolError(`length is ${length}; agreed were ${chunkBytes} bytes at most`, tag);
    const transfer = this.#transfer;
    if (!transfer || (request.kind === 'getChunk') !== (transfer.source !== undefined)) {
      void this.#answer({ tag, status: Status.STATE, text: `${request.kind} without a file open for it` });
      return;
    }
    if (offset !== transfer.next)
      throw new ProtocolError(`offset is ${offset}; the next byte is ${transfer.next}`, tag);
    if (offset + length > transfer.size) {
      throw new ProtocolError(`chunk ends at ${offset + length}; the file has ${transfer.size} bytes`, tag);
    }
    transfer.next += length;
    this.#chunks++;
    const work = this.#chunk(transfer, request).then(() => {
      transfer.active.delete(work);
      const last = transfer.next === transfer.size && transfer.active.size === 0 && !transfer.failure;
      // Both ends hash at the same time; an error is reported to the close that follows.
      if (last) this.#digest(transfer).catch(() => {});
    });
    transfer.active.add(work);
  }

  async #chunk(transfer: Transfer, request: Chunk): Promise<void> {
    const slot = await this.#window.take().catch(() => undefined);
    if (!slot) return;
    const bytes = slot.bytes.subarray(0, request.length);
    try {
      if (transfer.source) await this.#sendChunk(transfer, transfer.source, request, bytes);
      else await this.#receiveChunk(transfer, transfer.part!, request, bytes);
    } catch (error) {
      const failure = fileError(transfer.name, error);
      transfer.failure ??= failure;
      transfer.turns.fail(failure);
      this.#chunks--;
      await this.#answer({ tag: request.tag, status: failure.status, text: failure.message });
    } finally {
      this.#window.release(slot);
    }
  }

  async #sendChunk(transfer: Transfer, source: Source, request: Chunk, bytes: Buffer): Promise<void> {
    await source.read(bytes, request.offset);
    await transfer.turns.wait(request.offset);
    // The answer follows the data on the same queue pair, so it cannot arrive before them.
    const written = this.#link.write(bytes, request);
    this.#chunks--;
    const answered = this.#answer({ tag: request.tag, status: Status.OK });
    transfer.hash.update(bytes);
    transfer.turns.advance(request.offset + request.length);
    await answered;
    // A failed WRITE ends the connection; there is nobody to answer.
    await written.catch(() => {});
  }

  async #receiveChunk(transfer: Transfer, part: PartFile, request: Chunk, bytes: Buffer): Promise<void> {
    await this.#link.read(bytes, request);
    await transfer.turns.wait(request.offset);
    transfer.hash.update(bytes);
    transfer.turns.advance(request.offset + request.length);
    await writeFully(part.handle, bytes, request.offset);
    this.#chunks--;
    await this.#answer({ tag: request.tag, status: Status.OK });
  }
}
