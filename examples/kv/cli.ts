#!/usr/bin/env node
/** The command: serve a store, or use one. */
import { createWriteStream } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { buffer } from 'node:stream/consumers';
import { finished } from 'node:stream/promises';
import { Command, InvalidArgumentError } from 'commander';
import { KvClient } from './client.ts';
import { Display, formatBytes } from './display.ts';
import { NetServer } from './net.ts';
import { DEFAULT_PORT, KvServer } from './server.ts';
import { benchKeys, measureGets } from './workload.ts';

interface ClientFlags {
  port: number;
  device?: string;
  timeout: number;
  hex?: boolean;
}

interface ServeFlags {
  host: string;
  port: number;
  memory: number;
  buckets: number;
  lease: number;
  maxClients: number;
  data?: string;
  fsync?: boolean;
  net?: number;
  interval?: number;
}

interface BenchFlags extends ClientFlags {
  keys: number;
  size: number;
  depth: number;
  seconds: number;
  messages?: boolean;
  interval?: number;
}

/** `64m`, `512k` or a plain number of bytes. */
function parseBytes(text: string): number {
  const [, digits, unit] = /^(\d+)([kmg]?)$/i.exec(text) ?? [];
  if (digits === undefined) throw new InvalidArgumentError('Give bytes, as in 65536, 512k or 64m.');
  return Number(digits) * 1024 ** ['', 'k', 'm', 'g'].indexOf(unit!.toLowerCase());
}

function parseWhole(text: string): number {
  if (!/^\d+$/.test(text)) throw new InvalidArgumentError('Give a whole number.');
  return Number(text);
}

function parseSeconds(text: string): number {
  const seconds = Number(text);
  if (!(seconds > 0 && seconds <= 3600))
    throw new InvalidArgumentError('Give seconds, more than 0, up to 3600.');
  return seconds;
}

/** Resolves at the first SIGINT or SIGTERM. */
function interrupted(): Promise<void> {
  return new Promise((resolve) => process.once('SIGINT', () => resolve()).once('SIGTERM', () => resolve()));
}

/** Closes [server] when what should stand beside it fails: otherwise it would keep the process alive. */
function closing(server: KvServer): (error: Error) => Promise<never> {
  return async (error) => {
    await server.close();
    throw error;
  };
}

async function serve(flags: ServeFlags): Promise<void> {
  const { host, port, memory, buckets, lease, maxClients, data, fsync, net, interval } = flags;
  let print = (text: string): void => console.log(text);
  const server = await KvServer.listen({
    host,
    port,
    memoryBytes: memory,
    buckets,
    leaseMs: lease * 1000,
    maxClients,
    data,
    sync: fsync,
    log: (text) => print(text),
  });
  const beside =
    net === undefined ? undefined : await NetServer.listen(server.service, host, net).catch(closing(server));
  const figures = () => {
    const { memoryBytes, freeBytes, ...store } = server.service.store.stats;
    const used = `${formatBytes(memoryBytes - freeBytes)} of ${formatBytes(memoryBytes)}`;
    return { ...server.stats, ...store, used };
  };
  const display = new Display(figures, interval === undefined ? undefined : interval * 1000);
  print = (text) => display.print(text);
  print(`serving on ${host} port ${server.port}; Ctrl-C ends it`);
  await interrupted();
  await beside?.close();
  await server.close();
  display.stop();
  console.log('closed');
}

/** Connects, runs, and closes; Ctrl-C ends what is in flight. */
async function withClient(
  host: string,
  { port, device, timeout }: ClientFlags,
  run: (client: KvClient) => Promise<void>,
  oneSided = true,
): Promise<void> {
  const client = await KvClient.connect({ host, port, device, timeoutMs: timeout * 1000, oneSided });
  const onSignal = (): void => void client.close();
  process.once('SIGINT', onSignal).once('SIGTERM', onSignal);
  try {
    await run(client);
  } finally {
    process.off('SIGINT', onSignal).off('SIGTERM', onSignal);
    await client.close();
  }
}

function keyOf(text: string, { hex }: ClientFlags): Buffer {
  if (hex && !/^([0-9a-f]{2})*$/i.test(text)) throw new Error(`${text} is not hexadecimal`);
  return Buffer.from(text, hex ? 'hex' : 'utf8');
}

async function get(host: string, key: string, flags: ClientFlags & { output?: string }): Promise<void> {
  await withClient(host, flags, async (client) => {
    const stored = await client.get(keyOf(key, flags));
    if (stored === undefined) throw new Error(`there is no key ${key}`);
    const stream = flags.output === undefined ? process.stdout : createWriteStream(flags.output);
    if (flags.output === undefined) await new Promise((resolve) => stream.write(stored.value, resolve));
    else await finished(stream.end(stored.value));
  });
}

async function put(
  host: string,
  key: string,
  value: string | undefined,
  flags: ClientFlags & { file?: string },
): Promise<void> {
  await withClient(host, flags, async (client) => {
    const bytes =
      value ?? (flags.file === undefined ? await buffer(process.stdin) : await readFile(flags.file));
    console.log(`version ${await client.put(keyOf(key, flags), bytes)}`);
  });
}

async function bench(host: string, flags: BenchFlags): Promise<void> {
  const { size, depth, seconds, interval } = flags;
  const run = async (client: KvClient): Promise<void> => {
    const keys = benchKeys(flags.keys);
    for (const key of keys) await client.put(key, Buffer.alloc(size, key));
    const display = new Display(
      () => ({ ...client.counters }),
      interval === undefined ? undefined : interval * 1000,
    );
    const { gets, rate, p50, p99 } = await measureGets(client, keys, { size, depth, seconds });
    display.stop();
    console.log(
      `${client.device}: ${gets} GETs of ${size} bytes, ${depth} at a time: ${rate.toFixed(0)} a second, ` +
        `p50 ${p50.toFixed(0)} us, p99 ${p99.toFixed(0)} us`,
    );
  };
  await withClient(host, flags, run, flags.messages !== true);
}

function clientCommand(program: Command, name: string, description: string): Command {
  return program
    .command(name)
    .description(description)
    .argument('<host>')
    .option('-p, --port <port>', 'port of the server', parseWhole, DEFAULT_PORT)
    .option('-d, --device <name>', 'insist on this RDMA device, as in rxe0')
    .option('--timeout <seconds>', 'for an answer, and for a connection to come back', parseSeconds, 10)
    .option('--hex', 'keys are hexadecimal bytes');
}

function createProgram(): Command {
  const program = new Command('kv').description('A key-value store that clients read by RDMA READ.');
  program
    .command('serve')
    .description('serve a store')
    .option('-H, --host <address>', 'address to listen on', '0.0.0.0')
    .option('-p, --port <port>', 'port to listen on', parseWhole, DEFAULT_PORT)
    .option('--memory <bytes>', 'memory for keys and values', parseBytes, 64 * 1024 * 1024)
    .option('--buckets <n>', 'of the first table; it grows', parseWhole, 1024)
    .option('--lease <seconds>', 'how long a client may read before it asks again', parseSeconds, 10)
    .option('--max-clients <n>', 'connections at once', parseWhole, 32)
    .option('--data <file>', 'keep the store in this file')
    .option('--fsync', 'have a value on the disk before it is said to be stored')
    .option('--net <port>', 'serve the same store over TCP too', parseWhole)
    .option('--interval <seconds>', 'how often the counters are shown', parseSeconds)
    .action(serve);
  clientCommand(program, 'get', 'fetch a value').argument('<key>').option('-o, --output <file>').action(get);
  clientCommand(program, 'put', 'store a value')
    .argument('<key>')
    .argument('[value]', 'default: standard input')
    .option('-f, --file <file>', 'the value is what is in the file')
    .action(put);
  clientCommand(program, 'delete', 'delete a key')
    .argument('<key>')
    .action((host: string, key: string, flags: ClientFlags) =>
      withClient(host, flags, async (client) => {
        if (!(await client.delete(keyOf(key, flags)))) throw new Error(`there is no key ${key}`);
      }),
    );
  clientCommand(program, 'list', 'list the keys').action((host: string, flags: ClientFlags) =>
    withClient(host, flags, async (client) => {
      for (const key of await client.list()) console.log(key.toString(flags.hex ? 'hex' : 'utf8'));
    }),
  );
  clientCommand(program, 'bench', 'measure GETs')
    .option('--keys <n>', 'keys to store and read', parseWhole, 1000)
    .option('--size <bytes>', 'bytes of each value', parseBytes, 1024)
    .option('--depth <n>', 'GETs at a time', parseWhole, 1)
    .option('--seconds <n>', 'how long', parseSeconds, 5)
    .option('--messages', 'ask the server for every value')
    .option('--interval <seconds>', 'how often the counters are shown', parseSeconds)
    .action(bench);
  return program;
}

try {
  await createProgram().parseAsync();
} catch (error) {
  const { message, code } = error as NodeJS.ErrnoException;
  console.error(`error: ${message}${code && !message.includes(code) ? ` (${code})` : ''}`);
  process.exitCode = 1;
}
