/** Our programs and the C programs, each as server and as client. */
import { spawn, spawnSync } from 'node:child_process';
import { resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { environmentOf } from '../helpers/foreign.ts';

/** A program and its first arguments. */
export type Command = readonly string[];

/** How a program ended. */
export interface Run {
  readonly status: number | null;
  readonly output: string;
}

/** A program of examples/. */
export function example(name: string, ...args: string[]): Command {
  return [process.execPath, resolve(`dist/examples/${name}/cli.js`), ...args];
}

/** A C program; fails where it is not installed. */
export function installed(name: string, ...args: string[]): Command {
  if (spawnSync('sh', ['-c', `command -v ${name}`]).status !== 0) {
    throw new Error(`install ${name} (Debian: rdmacm-utils and ibverbs-utils)`);
  }
  return [name, ...args];
}

interface Started {
  readonly done: Promise<Run>;
  output(): string;
  kill(): void;
}

function start([program, ...args]: Command): Started {
  const env = environmentOf(program as string);
  const child = spawn(program as string, args, { env, stdio: ['ignore', 'pipe', 'pipe'] });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (data: Buffer) => {
      output += data.toString();
    });
  }
  const done = new Promise<Run>((settle) => child.on('close', (status) => settle({ status, output })));
  return { done, output: () => output, kill: () => child.kill('SIGKILL') };
}

/** How a server and its client are run. */
export interface Circumstances {
  /** The client's messages may be lost: it is run until the server has enough of them. */
  readonly lossy?: boolean;
  /** How often both are started anew when one of them fails. */
  readonly attempts?: number;
}

/** How long the server may take after the client has ended, milliseconds. */
const SERVER_MS = 10_000;

/**
 * Runs a server, then a client; the client is tried again while the server is not listening yet, which C programs do not
 * tell.
 */
export async function serveAndCall(
  server: Command,
  client: Command,
  { lossy = false, attempts = 1 }: Circumstances = {},
): Promise<{ server: Run; client: Run }> {
  const serving = start(server);
  let over: Run | undefined;
  void serving.done.then((run) => {
    over = run;
  });
  const tells = server[0] === process.execPath;
  for (let i = 0; tells && over === undefined && !/listening|joined/.test(serving.output()) && i < 500; i++) {
    await sleep(20);
  }
  if (!tells) await sleep(300);
  let called: Run;
  for (let attempt = 0; ; attempt++) {
    called = await start(client).done;
    if (lossy) await Promise.race([serving.done, sleep(500)]);
    if (over !== undefined || attempt === 8 || (called.status === 0 && !lossy)) break;
    await sleep(300);
  }
  const timer = setTimeout(() => serving.kill(), SERVER_MS);
  const served = await serving.done;
  clearTimeout(timer);
  if (attempts > 1 && (served.status !== 0 || called.status !== 0)) {
    return serveAndCall(server, client, { lossy, attempts: attempts - 1 });
  }
  return { server: served, client: called };
}
