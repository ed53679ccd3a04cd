/** C programs over rsockets, and what Node needs to talk to them. */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { connect, type RdmaConnectOptions, type RdmaSocket } from '../../../lib/net/index.ts';
import { environmentOf } from '../helpers/foreign.ts';

/** A program that is running. */
export interface Program {
  /** Its exit status, or the signal that ended it. */
  readonly ended: Promise<number | string>;
  output(): string;
  kill(): void;
}

/** Starts a program; under [preload] its sockets are rsockets. */
export function start(command: string, args: readonly string[], preload = false): Program {
  const env = { ...environmentOf(command), ...(preload && { LD_PRELOAD: librspreload() }) };
  const child: ChildProcess = spawn(command, args, { env, stdio: ['ignore', 'pipe', 'pipe'] });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream?.on('data', (data: Buffer) => {
      output += data.toString('latin1');
    });
  }
  const ended = once(child, 'close').then(([status, signal]) => status ?? signal);
  return { ended, output: () => output, kill: () => child.kill('SIGKILL') };
}

/** Path of the library that turns sockets into rsockets (Debian: librdmacm1). */
export function librspreload(): string {
  const places = ['/usr/lib', '/usr/lib64', ...readdirSync('/usr/lib').map((name) => join('/usr/lib', name))];
  const found = places.map((dir) => join(dir, 'rsocket', 'librspreload.so')).find((path) => existsSync(path));
  if (found === undefined) throw new Error('install librspreload.so (Debian: librdmacm1)');
  return found;
}

/** The interpreter itself: a wrapper in its place would be preloaded too. */
export function python(): string {
  return execFileSync('python3', ['-c', 'import sys; print(sys.executable)'], { encoding: 'utf8' }).trim();
}

/** Connects to a program that may not listen yet. */
export async function connectTo(
  host: string,
  port: number,
  program: Program,
  options: Partial<RdmaConnectOptions> = {},
): Promise<RdmaSocket> {
  for (let attempt = 0; ; attempt += 1) {
    const socket = connect({ host, port, ...options });
    try {
      await once(socket, 'connect');
      return socket;
    } catch (error) {
      const over = await Promise.race([program.ended, sleep(200)]);
      if (attempt === 50 || over !== undefined) {
        throw new Error(`no connection to the program: ${program.output()}`, { cause: error });
      }
    }
  }
}

/** The next [length] bytes of [socket]. */
export function readExactly(socket: RdmaSocket, length: number): Promise<Buffer> {
  if (length === 0) return Promise.resolve(Buffer.alloc(0));
  return new Promise((resolve, reject) => {
    const settle = (action: () => void) => {
      socket.off('readable', onReadable).off('end', onEnd).off('error', onError);
      action();
    };
    // One listener until there is enough: a new one would be told of the same bytes at once, again and again.
    const onReadable = () => {
      const bytes: Buffer | null = socket.read(length);
      if (bytes !== null && bytes.length === length) settle(() => resolve(bytes));
    };
    const onEnd = () => settle(() => reject(new Error(`the stream ended before ${length} bytes`)));
    const onError = (error: Error) => settle(() => reject(error));
    socket.on('readable', onReadable).on('end', onEnd).on('error', onError);
    onReadable();
  });
}
