/** The same file by rcopy, the file copier in C of rdmacm-utils, to compare with. */
import { spawn, spawnSync } from 'node:child_process';
import { rm } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';

const CONNECT_ATTEMPTS = 20;

/** Whether rcopy is installed. */
export function hasRcopy(): boolean {
  return spawnSync('sh', ['-c', 'command -v rcopy']).status === 0;
}

/** A running rcopy server. */
export interface RcopyServer {
  /** Copies `source` to `destination` through the server and returns bytes per second, by rcopy's own clock. */
  copy(source: string, destination: string): Promise<number>;
  close(): void;
}

/** Starts a server; rcopy listens on all addresses, `host` is where the client connects to. */
export function startRcopy(host: string, port: number): RcopyServer {
  const server = spawn('rcopy', ['-p', String(port)], { stdio: 'ignore' });
  return {
    async copy(source, destination) {
      await rm(destination, { force: true });
      for (let attempt = 1; ; attempt++) {
        const output = await run('rcopy', [source, `${host}:${destination}`, '-p', String(port)]);
        const [, bytes, gigabits] = /(\d+) bytes in [\d.]+ seconds = ([\d.]+) Gb\/sec/.exec(output) ?? [];
        if (bytes !== undefined) return (Number(gigabits) * 1e9) / 8;
        // The server may not listen yet.
        if (attempt === CONNECT_ATTEMPTS) throw new Error(`rcopy failed:\n${output}`);
        await sleep(100);
      }
    },
    close() {
      // rcopy has no other way to end.
      server.kill('SIGKILL');
    },
  };
}

/** Runs a command and resolves with everything it printed. */
export function run(command: string, args: readonly string[]): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'] });
    let output = '';
    child.stdout.on('data', (data: Buffer) => (output += data.toString()));
    child.stderr.on('data', (data: Buffer) => (output += data.toString()));
    child.once('error', reject);
    child.once('close', () => resolve(output));
  });
}
