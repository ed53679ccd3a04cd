/** Running the programs of the build: into the log, and gone when we are. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createReadStream, createWriteStream, statSync, type WriteStream } from 'node:fs';
import { finished } from 'node:stream/promises';
import { SoftRdmaError, type SoftRdmaErrorCode } from '../errors.ts';

/** Told how far the present stage is: 0 to 1. */
export type OnFraction = (fraction: number) => void;

/** How to run one program. */
export interface StepOptions {
  cwd?: string;
  /** A file that is fed to its standard input, with `onFraction` told how much of it has been taken. */
  input?: string;
  onFraction?: OnFraction;
  /** Called with each line of its standard output. */
  onLine?: (line: string) => void;
  /** The error's code when it fails. */
  code?: SoftRdmaErrorCode;
}

/** The programs of one build: they share a log and end together. */
export class Steps {
  readonly logPath: string;
  readonly #log: WriteStream;
  readonly #running = new Set<ChildProcess>();
  #tail: string[] = [];
  #interrupted: NodeJS.Signals | undefined;

  constructor(logPath: string) {
    this.logPath = logPath;
    this.#log = createWriteStream(logPath);
  }

  /** Adds a line to the log. */
  note(line: string): void {
    this.#log.write(`${line}\n`);
    this.#tail = [...this.#tail.slice(-14), line];
  }

  /** Runs a program and resolves to its standard output. Throws with the end of the log when it fails. */
  async run(file: string, args: readonly string[], options: StepOptions = {}): Promise<string> {
    this.note(`+ ${[file, ...args].join(' ')}`);
    // A group of its own, so that make is ended with all its children.
    const child = spawn(file, args, {
      cwd: options.cwd,
      detached: true,
      stdio: [options.input ? 'pipe' : 'ignore', 'pipe', 'pipe'],
      env: { ...process.env, LC_ALL: 'C', MAKEFLAGS: '' },
    });
    this.#running.add(child);
    try {
      if (options.input && child.stdin) feed(options.input, child.stdin, options.onFraction);
      const ended = once(child, 'close').catch((error: Error) => [error.message]);
      child.stderr!.on('data', (chunk: Buffer) => this.#noteAll(chunk.toString()));
      let output = '';
      let rest = '';
      child.stdout!.on('data', (chunk: Buffer) => {
        const lines = (rest + chunk.toString()).split('\n');
        rest = lines.pop()!;
        output += chunk.toString();
        for (const line of lines) {
          this.note(line);
          options.onLine?.(line);
        }
      });
      const [status] = await ended;
      if (this.#interrupted)
        throw new SoftRdmaError('ERR_SOFTRDMA_BUILD', `interrupted by ${this.#interrupted}`);
      if (status !== 0) {
        const message = `${file} failed (${status}). Log: ${this.logPath}\n${this.#tail.join('\n')}`;
        throw new SoftRdmaError(options.code ?? 'ERR_SOFTRDMA_BUILD', message);
      }
      return output;
    } finally {
      this.#running.delete(child);
    }
  }

  /** Ends all programs; whatever runs them fails. */
  interrupt(signal: NodeJS.Signals): void {
    this.#interrupted = signal;
    for (const child of this.#running) {
      try {
        process.kill(-child.pid!, 'SIGKILL');
      } catch {
        // It has just ended by itself.
      }
    }
  }

  /** Closes the log. */
  async end(): Promise<void> {
    this.#log.end();
    await finished(this.#log);
  }

  #noteAll(text: string): void {
    for (const line of text.trimEnd().split('\n')) this.note(line);
  }
}

function feed(path: string, stdin: NodeJS.WritableStream, onFraction: OnFraction | undefined): void {
  const { size } = statSync(path);
  let done = 0;
  const source = createReadStream(path, { highWaterMark: 1 << 20 });
  source.on('data', (chunk) => {
    done += chunk.length;
    onFraction?.(done / size);
  });
  // A program that ends before its input does reports that itself.
  stdin.on('error', () => source.destroy());
  source.pipe(stdin);
}
