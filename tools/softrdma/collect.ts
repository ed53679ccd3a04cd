/** `run`: a command from beginning to end, with what it wrote. */
import { once } from 'node:events';
import type { Readable } from 'node:stream';
import type { SpawnOptions } from './machine.ts';
import type { ExitResult, GuestProcess } from './process.ts';

/** How to run a command to its end. */
export interface RunCommandOptions extends Omit<SpawnOptions, 'tty'> {
  /** Given to the command as its standard input, then end of file. Default: end of file at once. */
  input?: string | Uint8Array | undefined;
  /** Milliseconds until the command is killed. Default: none. */
  timeout?: number | undefined;
  /** Kills the command when aborted. */
  signal?: AbortSignal | undefined;
}

/** What came of a command. A status other than 0 is not an error. */
export interface RunResult extends ExitResult {
  /** Standard output as UTF-8; `stdoutBytes` has it as it came. */
  stdout: string;
  /** Standard error as UTF-8. */
  stderr: string;
  stdoutBytes: Buffer;
  /** Whether `timeout` ended it. */
  timedOut: boolean;
}

/** Collects a command's output until it ends. */
export async function collect(guest: GuestProcess, options: RunCommandOptions): Promise<RunResult> {
  const [stdout, stderr] = [gather(guest.stdout), gather(guest.stderr)];
  let timedOut = false;
  const timer =
    options.timeout === undefined
      ? undefined
      : setTimeout(() => {
          timedOut = true;
          guest.kill('SIGKILL');
        }, options.timeout);
  const abort = () => guest.kill('SIGKILL');
  if (options.signal?.aborted) abort();
  options.signal?.addEventListener('abort', abort, { once: true });
  try {
    guest.stdin.end(options.input ?? '');
    const result = await guest.exited;
    const bytes = await stdout();
    return {
      ...result,
      stdout: bytes.toString(),
      stderr: (await stderr()).toString(),
      stdoutBytes: bytes,
      timedOut,
    };
  } finally {
    clearTimeout(timer);
    options.signal?.removeEventListener('abort', abort);
  }
}

/**
 * Reads a stream from now on. The function returned gives what has come: all of it if the stream has ended, and what
 * is there if something that the command left running still holds it open.
 */
function gather(stream: Readable): () => Promise<Buffer> {
  const chunks: Buffer[] = [];
  stream.on('data', (chunk: Buffer) => chunks.push(chunk));
  return async () => {
    while (!stream.readableEnded && stream.readableLength > 0) await once(stream, 'data');
    return Buffer.concat(chunks);
  };
}
