/** Starts a server as a process of its own; for the demonstration, the benchmark and the tests. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';

/** A server process that accepts connections. */
export interface ServerProcess {
  readonly child: ChildProcess;
  /** What it has printed. */
  output(): string;
  /** Ends it as Ctrl-C does and resolves with its exit status (null when a signal ended it). */
  close(): Promise<number | null>;
}

/** Resolves when the server listens. `options` are further arguments of the command. */
export async function spawnServer(
  directory: string,
  host: string,
  port: number,
  options: readonly string[] = [],
): Promise<ServerProcess> {
  const command = fileURLToPath(new URL('./cli.js', import.meta.url));
  const args = [command, 'serve', directory, '--host', host, '--port', String(port), ...options];
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'pipe'] });
  let output = '';
  const exited = once(child, 'exit') as Promise<[number | null]>;
  await new Promise<void>((resolve, reject) => {
    const onData = (data: Buffer): void => {
      output += data.toString();
      if (output.includes('serving ')) resolve();
    };
    child.stdout.on('data', onData);
    child.stderr.on('data', onData);
    child.once('error', reject);
    exited.then(
      ([status]) => reject(new Error(`the server ended with status ${status}:\n${output}`)),
      reject,
    );
  });
  return {
    child,
    output: () => output,
    async close() {
      child.kill('SIGINT');
      return (await exited)[0];
    },
  };
}
