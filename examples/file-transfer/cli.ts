#!/usr/bin/env node
/** The command: serve a directory, or get, put and list files of a server. */
import { Command, InvalidArgumentError } from 'commander';
import { FileClient, type TransferOptions } from './client.ts';
import type { Limits } from './hello.ts';
import { createProgress, describeResult } from './progress.ts';
import { RdmaLink } from './rdma-link.ts';
import { DEFAULT_LIMITS, DEFAULT_PORT, FileServer } from './server.ts';

interface CommonOptions {
  port: number;
  device?: string;
  chunk: number;
  depth: number;
  timeout: number;
  fsync?: boolean;
}

interface ClientOptions extends CommonOptions {
  hash: 'during' | 'after';
}

/** `1m`, `512k` or a plain number of bytes. */
function parseBytes(text: string): number {
  const [, digits, unit] = /^(\d+)([km]?)$/i.exec(text) ?? [];
  if (digits === undefined) throw new InvalidArgumentError('Give bytes, as in 65536, 512k or 1m.');
  return Number(digits) * { '': 1, k: 1024, m: 1024 * 1024 }[(unit ?? '').toLowerCase() as '' | 'k' | 'm'];
}

function parseWhole(text: string): number {
  if (!/^\d+$/.test(text)) throw new InvalidArgumentError('Give a whole number.');
  return Number(text);
}

function parseSeconds(text: string): number {
  const seconds = Number(text);
  if (!(seconds >= 3 && seconds <= 3600)) throw new InvalidArgumentError('Give seconds, 3 to 3600.');
  return seconds;
}

function parseHash(text: string): 'during' | 'after' {
  if (text !== 'during' && text !== 'after') throw new InvalidArgumentError('Give during or after.');
  return text;
}

function withCommon(command: Command): Command {
  return command
    .option('-p, --port <port>', 'port of the server', parseWhole, DEFAULT_PORT)
    .option('-d, --device <name>', 'insist on this RDMA device, as in rxe0')
    .option(
      '--chunk <bytes>',
      'bytes of a chunk, as in 65536, 512k or 1m',
      parseBytes,
      DEFAULT_LIMITS.chunkBytes,
    )
    .option('--depth <n>', 'chunks in flight', parseWhole, DEFAULT_LIMITS.depth)
    .option('--timeout <seconds>', 'give up a peer that is silent for so long', parseSeconds, 5);
}

function withHash(command: Command): Command {
  return command.option(
    '--hash <when>',
    'compute the SHA-256 during the transfer or after it',
    parseHash,
    'after',
  );
}

function limitsOf({ chunk, depth }: CommonOptions): Limits {
  return { chunkBytes: chunk, depth };
}

/** Connects, runs, and closes; Ctrl-C ends the transfer and leaves no partial file. */
async function withClient(host: string, options: CommonOptions, run: (client: FileClient) => Promise<void>) {
  const { port, device } = options;
  const link = await RdmaLink.connect({ host, port, device }, limitsOf(options));
  const client = new FileClient(link, { timeoutMs: options.timeout * 1000 });
  const interrupt = (): void => void client.close(new Error('interrupted'));
  process.once('SIGINT', interrupt).once('SIGTERM', interrupt);
  try {
    await run(client);
  } finally {
    await client.close();
  }
}

async function serve(
  directory: string,
  options: CommonOptions & { host: string; maxClients: number },
): Promise<void> {
  const { host, port, device, maxClients } = options;
  const server = await FileServer.listen({
    directory,
    host,
    port,
    device,
    maxClients,
    limits: limitsOf(options),
    timeoutMs: options.timeout * 1000,
    sync: options.fsync ?? false,
    log: (text) => console.log(text),
  });
  console.log(`serving ${directory} on ${host} port ${port}; Ctrl-C ends it`);
  await new Promise<void>((resolve) => process.once('SIGINT', resolve).once('SIGTERM', resolve));
  await server.close();
  console.log('closed');
}

async function transfer(
  label: string,
  options: ClientOptions,
  run: (options: TransferOptions) => ReturnType<FileClient['get']>,
): Promise<void> {
  const progress = createProgress(label);
  try {
    const onProgress = (done: number, size: number): void => progress.update(done, size);
    const result = await run({ hash: options.hash, sync: options.fsync ?? false, onProgress });
    progress.stop();
    console.log(describeResult(label, result));
  } finally {
    progress.stop();
  }
}

function createProgram(): Command {
  const program = new Command('file-transfer').description('Files over RDMA READ and WRITE.');
  withCommon(program.command('serve').description('serve a directory').argument('<directory>'))
    .option('-H, --host <address>', 'address to listen on', '0.0.0.0')
    .option('--max-clients <n>', 'connections at once', parseWhole, 32)
    .option('--fsync', 'have stored files on the disk before saying so')
    .action(serve);
  withHash(
    withCommon(program.command('get').description('fetch a file').argument('<host>').argument('<name>')),
  )
    .argument('[destination]', 'file or directory', '.')
    .option('--fsync', 'have the file on the disk before it gets its name')
    .action((host: string, name: string, destination: string, options: ClientOptions) =>
      withClient(host, options, (client) =>
        transfer(`get ${name}`, options, (settings) => client.get(name, destination, settings)),
      ),
    );
  withHash(
    withCommon(program.command('put').description('store a file').argument('<host>').argument('<file>')),
  )
    .argument('[name]', 'name on the server (default: the base name of the file)')
    .action((host: string, file: string, name: string | undefined, options: ClientOptions) =>
      withClient(host, options, (client) =>
        transfer(`put ${name ?? file}`, options, (settings) => client.put(file, name, settings)),
      ),
    );
  withCommon(program.command('list').description('list the files of a server').argument('<host>')).action(
    (host: string, options: CommonOptions) =>
      withClient(host, options, async (client) => {
        for (const { name, size } of await client.list()) console.log(`${String(size).padStart(15)} ${name}`);
      }),
  );
  return program;
}

try {
  await createProgram().parseAsync();
} catch (error) {
  const { message, code } = error as NodeJS.ErrnoException;
  console.error(`error: ${message}${code && !message.includes(code) ? ` (${code})` : ''}`);
  process.exitCode = 1;
}
