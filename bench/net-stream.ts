/**
 * Streams of node-rdma/net against rstream (rdmacm-utils), which is C over the same protocol: two processes each, the same
 * traffic, the same buffers, in one boot. The client sends [count] transfers of [size] bytes, the server sends as many back.
 *
 *   node dist/tools/softrdma/cli.js -- node dist/bench/net-stream.js --device rxe0 --device siw0
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { Command } from 'commander';
import { connect, createServer, type RdmaSocket } from '../lib/net/index.ts';
import { deviceOption } from './device-option.ts';
import { writeJson } from './results.ts';
import { softHosts } from './soft-hosts.ts';
import { digits, median } from './stats.ts';

/** A program in C: polling without pause as it is run without options, or sleeping until something comes, as Node does. */
interface Twin {
  readonly name: string;
  readonly program: string;
  readonly mode: readonly string[];
}

const twins: readonly Twin[] = ['rstream', 'riostream'].flatMap((program) => [
  { name: program, program, mode: [] },
  { name: `${program} -T b`, program, mode: ['-T', 'b'] },
]);

/** Bytes per second of one size, medians of all rounds. */
interface StreamResult {
  readonly device: string;
  readonly size: number;
  readonly count: number;
  readonly node: number;
  readonly c: Readonly<Record<string, number>>;
  /** The fastest in C. */
  readonly twin: string;
  /** Medians of the rounds' ratios: to the fastest in C, and to each. */
  readonly ratio: number;
  readonly ratios: Readonly<Record<string, number>>;
}

/** What rstream sets: SO_SNDBUF and SO_RCVBUF of 512 KiB, which rsockets double. */
const BUFFER_BYTES = 1024 * 1024;
const SYNC_BYTES = 16;
const SIZES = [64, 4096, 65_536, 1_048_576];
/** Of one run; less when they are large. */
const MOST_TRANSFERS = 100_000;
const buffers = { sendBufferSize: BUFFER_BYTES, receiveBufferSize: BUFFER_BYTES };

/** Resolves when [bytes] more have come. */
function receive(socket: RdmaSocket, bytes: number): Promise<void> {
  return new Promise((resolve, reject) => {
    let left = bytes;
    const onData = (chunk: Buffer): void => {
      left -= chunk.length;
      if (left > 0) return;
      socket.off('data', onData).off('error', reject);
      resolve();
    };
    socket.on('data', onData).on('error', reject);
  });
}

async function send(socket: RdmaSocket, size: number, count: number): Promise<void> {
  const chunk = Buffer.alloc(size, 7);
  for (let i = 0; i < count; i++) {
    if (!socket.write(chunk)) await once(socket, 'drain');
  }
}

async function serve(host: string, port: number, size: number, count: number): Promise<void> {
  const server = createServer(buffers, async (socket) => {
    await receive(socket, SYNC_BYTES);
    socket.write(Buffer.alloc(SYNC_BYTES));
    await receive(socket, size * count);
    await send(socket, size, count);
    socket.end();
    server.close();
  });
  server.listen(port, host, () => console.log('listening'));
  await once(server, 'close');
}

async function call(host: string, port: number, size: number, count: number): Promise<void> {
  const socket = connect({ host, port, ...buffers });
  await once(socket, 'connect');
  const synced = receive(socket, SYNC_BYTES);
  socket.write(Buffer.alloc(SYNC_BYTES));
  await synced;
  const start = process.hrtime.bigint();
  const received = receive(socket, size * count);
  await send(socket, size, count);
  await received;
  const seconds = Number(process.hrtime.bigint() - start) / 1e9;
  console.log(`rate ${(2 * size * count) / seconds}`);
  socket.end();
}

/** Output of [child]; rejects unless it ends well. */
async function outputOf(child: ChildProcess): Promise<string> {
  let output = '';
  child.stdout?.on('data', (data) => {
    output += data;
  });
  child.stderr?.on('data', (data) => {
    output += data;
  });
  const [status] = await once(child, 'close');
  if (status !== 0) throw new Error(`${child.spawnargs.join(' ')} ended with ${status}:\n${output}`);
  return output;
}

async function nodeRate(host: string, port: number, size: number, count: number): Promise<number> {
  const self = fileURLToPath(import.meta.url);
  const args = [host, String(port), String(size), String(count)];
  const server = spawn(process.execPath, [self, 'serve', ...args]);
  const served = outputOf(server);
  await Promise.race([once(server.stdout, 'data'), served]);
  const output = await outputOf(spawn(process.execPath, [self, 'call', ...args]));
  await served;
  return Number(/rate ([\d.]+)/.exec(output)?.[1]);
}

async function twinRate(
  { program, mode }: Twin,
  host: string,
  port: number,
  size: number,
  count: number,
): Promise<number> {
  const args = ['-p', String(port), '-S', String(size), '-C', String(count), '-I', '1', ...mode];
  const served = outputOf(spawn(program, ['-b', host, ...args]));
  await sleep(300);
  const output = await outputOf(spawn(program, ['-s', host, ...args]));
  await served;
  // The last column is microseconds for one transfer: the most exact.
  const perTransfer = Number(/([\d.]+)\s*$/.exec(output)?.[1]);
  return (size / perTransfer) * 1e6;
}

interface StreamOptions {
  readonly device: readonly string[];
  readonly host?: string;
  readonly sizes: readonly number[];
  readonly bytes: number;
  readonly rounds: number;
}

let nextPort = 7600;

async function measure(device: string, size: number, options: StreamOptions): Promise<StreamResult> {
  const host = options.host ?? softHosts[device];
  if (host === undefined) throw new Error(`--host: the address of ${device} is not known`);
  const count = Math.max(1, Math.min(MOST_TRANSFERS, Math.floor(options.bytes / size)));
  const node: number[] = [];
  const c = twins.map((): number[] => []);
  for (let round = 0; round < options.rounds; round++) {
    node.push(await nodeRate(host, nextPort++, size, count));
    for (const [i, twin] of twins.entries()) {
      c[i]!.push(await twinRate(twin, host, nextPort++, size, count));
    }
  }
  const named = (value: (rates: readonly number[]) => number): Record<string, number> =>
    Object.fromEntries(twins.map(({ name }, i) => [name, value(c[i]!)]));
  const rates = named(median);
  const ratios = named((theirs) => median(theirs.map((rate, round) => node[round]! / rate)));
  const { name: twin } = twins.reduce((best, other) =>
    rates[other.name]! > rates[best.name]! ? other : best,
  );
  return { device, size, count, node: median(node), c: rates, twin, ratio: ratios[twin]!, ratios };
}

function describe({ device, size, node, c, twin, ratio, ratios }: StreamResult): string {
  const mb = (rate: number): string => digits(rate / 1e6);
  const others = Object.entries(c).map(([name, rate]) => `${name} ${mb(rate)} (${digits(ratios[name]!)})`);
  return `${device} ${String(size).padStart(8)} B: ${mb(node)} MB/s, ${digits(ratio)} x ${twin}; ${others.join(', ')}`;
}

const [role, ...rest] = process.argv.slice(2);
if (role === 'serve' || role === 'call') {
  const [host, port, size, count] = rest as [string, string, string, string];
  await (role === 'serve' ? serve : call)(host, Number(port), Number(size), Number(count));
} else {
  const options = new Command('net-stream')
    .addOption(deviceOption('rxe0 and siw0'))
    .option('--host <address>', "address of the device's port, where it is not a soft one")
    .option('--sizes <list>', 'bytes of a transfer', (text: string) => text.split(',').map(Number), SIZES)
    .option('--bytes <n>', 'bytes of one direction', Number, 64 * 1024 * 1024)
    .option('--rounds <n>', 'how often each is measured', Number, 3)
    .parse()
    .opts<StreamOptions>();
  const results: StreamResult[] = [];
  for (const device of options.device.length > 0 ? options.device : Object.keys(softHosts)) {
    for (const size of options.sizes) {
      const result = await measure(device, size, options);
      results.push(result);
      console.log(describe(result));
    }
  }
  console.log(writeJson('net-stream', results));
}
