/**
 * The frames between host and guest, over the guest's serial line. `native/agent.c` is the other end:
 * u32 payload length, u8 type, u32 process id, payload; little endian.
 */

import type { Writable } from 'node:stream';

/** Bytes of output that the guest may send per stream before the host acknowledges any (WINDOW in agent.c). */
export const OUTPUT_WINDOW: number = 256 * 1024;
/** Bytes of input that the host may send per process before the guest acknowledges any. */
export const INPUT_WINDOW: number = 64 * 1024;

/**
 * Bytes that may be on their way to the guest at once. Its terminal driver holds 4096; when that runs full the driver
 * stops listening to the line, and never starts again.
 */
const LINE_WINDOW = 3072;

const HEADER = 9;

/** One frame: its one-letter type, the process it is about (0: none), and its payload. */
export interface Frame {
  type: string;
  id: number;
  payload: Buffer;
}

/** The bytes of a frame. */
export function encodeFrame(type: string, id: number, payload: Buffer = Buffer.alloc(0)): Buffer {
  const frame = Buffer.allocUnsafe(HEADER + payload.length);
  frame.writeUInt32LE(payload.length, 0);
  frame[4] = type.charCodeAt(0);
  frame.writeUInt32LE(id, 5);
  payload.copy(frame, HEADER);
  return frame;
}

/** Sends frames at the pace at which the guest takes them from the line. */
export class LineWriter {
  readonly #line: Writable;
  #waiting: Buffer[] = [];
  #credit = LINE_WINDOW;

  constructor(line: Writable) {
    this.#line = line;
  }

  /** Sends a frame, now or as soon as there is room. */
  send(frame: Buffer): void {
    this.#waiting.push(frame);
    this.#flush();
  }

  /** The guest has taken so many bytes (an `L` frame). */
  taken(bytes: number): void {
    this.#credit += bytes;
    this.#flush();
  }

  #flush(): void {
    while (this.#credit > 0 && this.#waiting.length > 0) {
      const next = this.#waiting[0]!;
      const part = next.subarray(0, this.#credit);
      this.#credit -= part.length;
      if (part.length === next.length) this.#waiting.shift();
      else this.#waiting[0] = next.subarray(part.length);
      this.#line.write(part);
    }
  }
}

/** Takes bytes as they come and calls back with each whole frame. */
export class FrameDecoder {
  readonly #onFrame: (frame: Frame) => void;
  #chunks: Buffer[] = [];
  #size = 0;

  constructor(onFrame: (frame: Frame) => void) {
    this.#onFrame = onFrame;
  }

  /** Adds bytes from the line. */
  push(chunk: Buffer): void {
    this.#chunks.push(chunk);
    this.#size += chunk.length;
    if (this.#size < HEADER) return;
    let data = this.#chunks.length === 1 ? chunk : Buffer.concat(this.#chunks);
    while (data.length >= HEADER) {
      const end = HEADER + data.readUInt32LE(0);
      if (data.length < end) break;
      const frame = {
        type: String.fromCharCode(data[4]!),
        id: data.readUInt32LE(5),
        payload: data.subarray(HEADER, end),
      };
      data = data.subarray(end);
      this.#onFrame(frame);
    }
    this.#chunks = data.length > 0 ? [data] : [];
    this.#size = data.length;
  }
}

/** A terminal's size in characters. */
export interface TerminalSize {
  columns: number;
  rows: number;
}

/** What to run in the guest. */
export interface RunRequest {
  argv: readonly string[];
  cwd: string;
  env: Readonly<Record<string, string | undefined>>;
  /** Give the command a terminal of this size instead of three pipes. */
  tty?: TerminalSize | undefined;
}

/** The payload of an `R` frame. */
export function encodeRun(request: RunRequest): Buffer {
  const env = Object.entries(request.env).flatMap(([key, value]) =>
    value === undefined ? [] : `${key}=${value}`,
  );
  const strings = [request.cwd, request.argv.length, ...request.argv, env.length, ...env];
  const head = Buffer.alloc(5);
  if (request.tty) {
    head[0] = 1;
    encodeSize(request.tty).copy(head, 1);
  }
  return Buffer.concat([head, Buffer.from(`${strings.join('\0')}\0`)]);
}

/** The payload of a `W` frame. */
export function encodeSize(size: TerminalSize): Buffer {
  const payload = Buffer.alloc(4);
  payload.writeUInt16LE(size.columns, 0);
  payload.writeUInt16LE(size.rows, 2);
  return payload;
}

/** The payload of an `A` frame: so many bytes of stdout (1) or stderr (2) have been consumed. */
export function encodeAck(stream: 1 | 2, bytes: number): Buffer {
  const payload = Buffer.alloc(5);
  payload[0] = stream;
  payload.writeUInt32LE(bytes, 1);
  return payload;
}
