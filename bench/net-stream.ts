/**
 * Streams of node-rdma/net against rstream (rdmacm-utils), which is C over the same protocol: two processes each, the same
 * traffic, the same buffers, in one boot. The client sends [count] transfers of [size] bytes, the server sends as many back.
 *
 *   node dist/tools/softrdma/cli.js -- node dist/bench/net-stream.js [device [size …]] [--rounds n] [--bytes n]
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { connect, createServer, type RdmaSocket } from '../lib/net/index.ts';

/** What is measured. */
export interface NetStreamOptions {
  /** 'rxe0' by default. */
  readonly device?: string;
  /** The device's address; by default that of the soft device. */
  readonly host?: string;
  /** Bytes of one transfer; several to be measured one after the other. */
  readonly sizes?: readonly number[];
  /** Bytes of one direction. */
  readonly bytes?: number;
  /** How often each is measured; medians are reported. */
  readonly rounds?: number;
  /** First port. */
  readonly port?: number;
}

/** Bytes per second of one size, medians. */
export interface NetStreamResult {
  readonly size: number;
  readonly count: number;
  readonly node: number;
  /** rstream as it is run without options: it polls without pause. */
  readonly rstream: number;
  /** rstream that sleeps until something comes, as Node does. */
  readonly rstreamBlocking: number;
  /** node / rstream */
  readonly ratio: number;
  readonly ratioBlocking: number;
}

/** What rstream sets: SO_SNDBUF and SO_RCVBUF of 512 KiB, which rsockets double. */
const BUFFER_BYTES = 1024 * 1024;
const SYNC_BYTES = 16;
const buffers = { sendBufferSize: BUFFER_BYTES, receiveBufferSize: BUFFER_BYTES };

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

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

async function rstreamRate(
  host: string,
  port: number,
  size: number,
  count: number,
  mode: readonly string[],
): Promise<number> {
  const args = ['-p', String(port), '-S', String(size), '-C', String(count), '-I', '1', ...mode];
  const served = outputOf(spawn('rstream', ['-b', host, ...args]));
  await sleep(300);
  const output = await outputOf(spawn('rstream', ['-s', host, ...args]));
  await served;
  // The last column is microseconds for one transfer: the most exact.
  const perTransfer = Number(/([\d.]+)\s*$/.exec(output)?.[1]);
  return (size / perTransfer) * 1e6;
}

/** Measures, and returns one result for each size. */
export async function run(options: NetStreamOptions = {}): Promise<NetStreamResult[]> {
  const {
    device = 'rxe0',
    sizes = [64, 4096, 65536, 1048576],
    bytes = 64 * 1024 * 1024,
    rounds = 3,
  } = options;
  const soft = device.startsWith('siw')
    ? (process.env.RDMA_SIW_ADDR ?? '10.0.2.1')
    : (process.env.RDMA_RXE_ADDR ?? '10.0.1.1');
  const host = options.host ?? soft;
  let port = options.port ?? 7600;
  const results: NetStreamResult[] = [];
  for (const size of sizes) {
    const count = Math.max(1, Math.min(100_000, Math.floor(bytes / size)));
    const rates: [number, number, number][] = [];
    for (let round = 0; round < rounds; round++) {
      rates.push([
        await nodeRate(host, port++, size, count),
        await rstreamRate(host, port++, size, count, []),
        await rstreamRate(host, port++, size, count, ['-T', 'b']),
      ]);
    }
    const [node, rstream, rstreamBlocking] = [0, 1, 2].map((i) => median(rates.map((rate) => rate[i]!))) as [
      number,
      number,
      number,
    ];
    const ratio = node / rstream;
    results.push({
      size,
      count,
      node,
      rstream,
      rstreamBlocking,
      ratio,
      ratioBlocking: node / rstreamBlocking,
    });
  }
  return results;
}

async function main(args: readonly string[]): Promise<void> {
  const [role, ...rest] = args;
  if (role === 'serve' || role === 'call') {
    const [host, port, size, count] = rest as [string, string, string, string];
    await (role === 'serve' ? serve : call)(host, Number(port), Number(size), Number(count));
    return;
  }
  const number = { type: 'string' } as const;
  const { values, positionals } = parseArgs({
    args: [...args],
    options: { rounds: number, bytes: number },
    allowPositionals: true,
  });
  const [only, ...few] = positionals;
  const options = {
    ...(few.length > 0 ? { sizes: few.map(Number) } : {}),
    ...(values.rounds === undefined ? {} : { rounds: Number(values.rounds) }),
    ...(values.bytes === undefined ? {} : { bytes: Number(values.bytes) }),
  };
  for (const device of only === undefined ? ['rxe0', 'siw0'] : [only]) {
    console.log(`${device}: bytes per transfer, MB/s of Node, rstream, rstream that blocks; ratios`);
    for (const result of await run({ device, ...options })) {
      const mb = (rate: number): string => (rate / 1e6).toFixed(1).padStart(9);
      console.log(
        `${String(result.size).padStart(9)} ${mb(result.node)} ${mb(result.rstream)} ${mb(result.rstreamBlocking)}` +
          `   ${result.ratio.toFixed(2)}  ${result.ratioBlocking.toFixed(2)}`,
      );
    }
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await main(process.argv.slice(2));
