/** Starts an example's server as a process of its own; for demonstrations, benchmarks and tests. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';

/** A server process that accepts connections. */
export interface ServerProcess {
  readonly child: ChildProcess;
  /** What it has printed. */
  output(): string;
  /** Ends it with a signal, by default as Ctrl-C does. @returns its exit status, null when the signal ended it */
  end(signal?: NodeJS.Signals): Promise<number | null>;
}

/** Resolves when `examples/<example>/cli.js serve` with these arguments says that it is serving. */
export async function spawnServer(
  example: 'kv' | 'file-transfer',
  options: readonly string[],
): Promise<ServerProcess> {
  const command = fileURLToPath(new URL(`../${example}/cli.js`, import.meta.url));
  const child = spawn(process.execPath, [command, 'serve', ...options], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let output = '';
  const exited = once(child, 'close') as Promise<[number | null]>;
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
    async end(signal = 'SIGINT') {
      child.kill(signal);
      return (await exited)[0];
    },
  };
}
