/** One command that runs in a machine, as the host sees it. */
import { constants } from 'node:os';
import { Readable, Writable } from 'node:stream';
import { SoftRdmaError } from './errors.ts';
import { encodeAck, encodeSize, type Frame, INPUT_WINDOW, type TerminalSize } from './protocol.ts';

/** How a command ended: by `status`, or by `signal`; the other is null. */
export interface ExitResult {
  status: number | null;
  signal: NodeJS.Signals | null;
}

type Send = (type: string, id: number, payload?: Buffer) => void;

const INPUT_CHUNK = 16 * 1024;
const signalNames = new Map(Object.entries(constants.signals).map(([name, number]) => [number, name]));

/**
 * A command in a machine. Its three streams are flow-controlled from end to end: a command that writes faster than
 * the host reads waits, as it would with a pipe.
 */
export class GuestProcess {
  /** The command's standard input. End it to give the command end of file. */
  readonly stdin: Writable;
  /** The command's standard output; with a terminal, everything it writes. */
  readonly stdout: Readable;
  /** The command's standard error; empty with a terminal. */
  readonly stderr: Readable;
  /**
   * Settles when the command ends, with all it wrote before that already in the streams. Rejects with
   * `ERR_SOFTRDMA_SPAWN` when it could not be started and `ERR_SOFTRDMA_DOWN` when the machine died under it.
   */
  readonly exited: Promise<ExitResult>;

  readonly #id: number;
  readonly #send: Send;
  readonly #name: string;
  readonly #unread = [0, 0, 0];
  #credit = INPUT_WINDOW;
  #input: { chunk: Buffer; done: (error?: Error | null) => void } | undefined;
  #settle!: { resolve: (result: ExitResult) => void; reject: (error: Error) => void };
  #over = false;
  #openStreams = 2;

  constructor(id: number, name: string, send: Send) {
    this.#id = id;
    this.#name = name;
    this.#send = send;
    this.exited = new Promise((resolve, reject) => {
      this.#settle = { resolve, reject };
    });
    // Whoever wants the failure awaits `exited`; one who does not must not be ended by it.
    this.exited.catch(() => {});
    this.stdout = this.#output(1);
    this.stderr = this.#output(2);
    this.stdin = new Writable({
      write: (chunk: Buffer, _encoding, done) => {
        this.#input = { chunk, done };
        this.#pump();
      },
      final: (done) => {
        if (!this.#over) this.#send('I', this.#id);
        done();
      },
    });
    this.stdin.on('error', () => {});
  }

  /** Sends a signal to the command and everything in its process group. Does nothing once it has ended. */
  kill(signal: NodeJS.Signals | number = 'SIGTERM'): void {
    const number = typeof signal === 'number' ? signal : constants.signals[signal];
    if (!number) throw new SoftRdmaError('ERR_SOFTRDMA_ARGUMENT', `no such signal: ${signal}`);
    if (!this.#over) this.#send('S', this.#id, Buffer.from([number]));
  }

  /** Changes the size of the command's terminal. */
  resize(size: TerminalSize): void {
    if (!this.#over) this.#send('W', this.#id, encodeSize(size));
  }

  /** A frame about this command came from the guest. Returns whether it was the last one. */
  handle(frame: Frame): boolean {
    const { type, payload } = frame;
    if (type === '1' || type === '2') {
      const stream = type === '1' ? this.stdout : this.stderr;
      if (payload.length === 0) {
        this.#openStreams--;
        stream.push(null);
      } else if (stream.destroyed) this.#acknowledge(type === '1' ? 1 : 2, payload.length);
      else {
        this.#unread[Number(type)]! += payload.length;
        stream.push(payload);
      }
    } else if (type === 'a') {
      this.#credit += payload.readUInt32LE(0);
      this.#pump();
    } else if (type === 'X') {
      const [signalled, value] = payload as unknown as [number, number];
      const signal = signalled ? ((signalNames.get(value) ?? `SIG${value}`) as NodeJS.Signals) : null;
      this.#finish();
      this.#settle.resolve({ status: signalled ? null : value, signal });
    } else if (type === 'E') {
      const errno = payload.readInt32LE(0);
      const why =
        payload.toString('utf8', 4) === 'chdir' ? 'its working directory is not there' : 'no such program';
      this.fail(
        new SoftRdmaError(
          'ERR_SOFTRDMA_SPAWN',
          `cannot run ${this.#name} in the machine: ${errno === 2 ? why : `errno ${errno}`}. ` +
            'The machine sees the host read-only, except for /tmp, /run and /dev, which are its own.',
          { errno },
        ),
      );
    }
    return this.#over && this.#openStreams <= 0;
  }

  /** Ends the command's streams and rejects `exited`: it never started, or its machine is gone. */
  fail(error: SoftRdmaError): void {
    this.#finish();
    this.#openStreams = 0;
    if (!this.stdout.destroyed) this.stdout.push(null);
    if (!this.stderr.destroyed) this.stderr.push(null);
    this.#settle.reject(error);
  }

  #finish(): void {
    this.#over = true;
    const input = this.#input;
    this.#input = undefined;
    input?.done();
    this.stdin.destroy();
  }

  #acknowledge(stream: 1 | 2, bytes: number): void {
    if (bytes > 0) this.#send('A', this.#id, encodeAck(stream, bytes));
  }

  #output(stream: 1 | 2): Readable {
    return new Readable({
      highWaterMark: 64 * 1024,
      read: () => {
        const bytes = this.#unread[stream]!;
        this.#unread[stream] = 0;
        this.#acknowledge(stream, bytes);
      },
    });
  }

  #pump(): void {
    const input = this.#input;
    if (!input) return;
    while (this.#credit > 0 && input.chunk.length > 0) {
      const part = input.chunk.subarray(0, Math.min(this.#credit, INPUT_CHUNK));
      input.chunk = input.chunk.subarray(part.length);
      this.#credit -= part.length;
      this.#send('I', this.#id, part);
    }
    if (input.chunk.length > 0) return;
    this.#input = undefined;
    input.done();
  }
}
