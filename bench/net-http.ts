/**
 * node:http over RDMA (node-rdma/http) next to node:http over TCP: the same handler, the same addresses, server and client
 * in processes of their own, in one boot, by turns. Requests a second of small answers over one and over many kept
 * connections, and bytes a second of large ones.
 *
 *   node dist/tools/softrdma/cli.js -- node dist/bench/net-http.js [device] [--rounds n] [--seconds n]
 */
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import http from 'node:http';
import { performance } from 'node:perf_hooks';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { Agent, createServer } from '../lib/net/adapters/http.ts';

/** What is measured. */
export interface NetHttpOptions {
  /** 'rxe0' by default. */
  readonly device?: string;
  /** The device's address; by default that of the soft device. */
  readonly host?: string;
  /** Seconds of one measurement. */
  readonly seconds?: number;
  /** How often each is measured; medians are reported. */
  readonly rounds?: number;
}

/** One line of the result; medians. */
export interface NetHttpResult {
  readonly what: string;
  readonly unit: 'requests/s' | 'MB/s';
  readonly rdma: number;
  readonly tcp: number;
  /** rdma / tcp */
  readonly ratio: number;
}

type Transport = 'rdma' | 'tcp';

/** What a client is asked to do. */
interface Load {
  readonly transport: Transport;
  readonly host: string;
  readonly port: number;
  readonly connections: number;
  /** Bytes of one answer. */
  readonly bytes: number;
  readonly seconds: number;
}

const LOADS = [
  { what: '100 B answers, 1 connection', connections: 1, bytes: 100 },
  { what: '100 B answers, 16 connections', connections: 16, bytes: 100 },
  { what: '16 MiB answers, 1 connection', connections: 1, bytes: 16 * 1024 * 1024 },
] as const;

const BLOCK = Buffer.alloc(65536, 'x');

/** GET /N is answered with N bytes. */
function answer(request: http.IncomingMessage, response: http.ServerResponse): void {
  let left = Number(request.url?.slice(1));
  response.setHeader('Content-Length', left);
  const more = (): void => {
    while (left > 0) {
      const chunk = BLOCK.subarray(0, left);
      left -= chunk.length;
      if (!response.write(chunk)) {
        response.once('drain', more);
        return;
      }
    }
    response.end();
  };
  more();
}

async function serve(transport: Transport, host: string): Promise<void> {
  const server = transport === 'rdma' ? createServer(answer) : http.createServer(answer);
  server.listen(0, host);
  await once(server, 'listening');
  process.send?.((server.address() as { port: number }).port);
}

/** Answers that came within the time. */
async function load({ transport, host, port, connections, bytes, seconds }: Load): Promise<void> {
  const options = { keepAlive: true, maxSockets: connections };
  const agent = transport === 'rdma' ? new Agent(options) : new http.Agent(options);
  const get = (): Promise<void> =>
    new Promise((resolve, reject) => {
      http
        .get({ agent, host, port, path: `/${bytes}` }, (response) => response.resume().once('end', resolve))
        .once('error', reject);
    });
  await Promise.all(Array.from({ length: connections }, get));
  const start = performance.now();
  let answers = 0;
  await Promise.all(
    Array.from({ length: connections }, async () => {
      while (performance.now() - start < seconds * 1000) {
        await get();
        answers += 1;
      }
    }),
  );
  process.send?.((answers * 1000) / (performance.now() - start));
  agent.destroy();
}

function child(role: 'serve' | 'load', argument: object): ChildProcess {
  return fork(fileURLToPath(import.meta.url), [role, JSON.stringify(argument)]);
}

async function message(from: ChildProcess): Promise<number> {
  const ended = once(from, 'exit').then(([status]) => {
    throw new Error(`a process of the benchmark ended with ${status}`);
  });
  const [value] = await Promise.race([once(from, 'message'), ended]);
  ended.catch(() => undefined);
  return value as number;
}

async function rate(transport: Transport, host: string, what: Omit<Load, 'transport' | 'host' | 'port'>) {
  const server = child('serve', { transport, host });
  try {
    const port = await message(server);
    return await message(child('load', { transport, host, port, ...what }));
  } finally {
    server.kill('SIGKILL');
  }
}

function median(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[values.length >> 1]!;
}

/** Measures each load [rounds] times on RDMA and on TCP, by turns. */
export async function run(options: NetHttpOptions = {}): Promise<NetHttpResult[]> {
  const { device = 'rxe0', seconds = 2, rounds = 5 } = options;
  const soft = device.startsWith('siw')
    ? (process.env.RDMA_SIW_ADDR ?? '10.0.2.1')
    : (process.env.RDMA_RXE_ADDR ?? '10.0.1.1');
  const host = options.host ?? soft;
  const results: NetHttpResult[] = [];
  for (const { what, connections, bytes } of LOADS) {
    const rates = { rdma: [] as number[], tcp: [] as number[] };
    for (let round = 0; round < rounds; round++) {
      for (const transport of ['rdma', 'tcp'] as const)
        rates[transport].push(await rate(transport, host, { connections, bytes, seconds }));
    }
    const large = bytes > BLOCK.length;
    const scale = large ? bytes / 1e6 : 1;
    const [rdma, tcp] = [median(rates.rdma) * scale, median(rates.tcp) * scale];
    results.push({ what, unit: large ? 'MB/s' : 'requests/s', rdma, tcp, ratio: rdma / tcp });
  }
  return results;
}

async function main(args: readonly string[]): Promise<void> {
  const [role, argument] = args;
  if (role === 'serve') {
    const { transport, host } = JSON.parse(argument!) as { transport: Transport; host: string };
    return serve(transport, host);
  }
  if (role === 'load') return load(JSON.parse(argument!) as Load);
  const number = { type: 'string' } as const;
  const { values, positionals } = parseArgs({
    args: [...args],
    options: { rounds: number, seconds: number },
    allowPositionals: true,
  });
  const options = {
    ...(values.rounds === undefined ? {} : { rounds: Number(values.rounds) }),
    ...(values.seconds === undefined ? {} : { seconds: Number(values.seconds) }),
  };
  for (const device of positionals.length === 0 ? ['rxe0', 'siw0'] : positionals) {
    console.log(`${device}: HTTP over RDMA, over TCP, ratio`);
    for (const { what, unit, rdma, tcp, ratio } of await run({ device, ...options })) {
      const figures = [rdma, tcp].map((figure) => figure.toFixed(0).padStart(8)).join(' ');
      console.log(`  ${what.padEnd(30)} ${figures} ${unit.padEnd(10)} ${ratio.toFixed(2)}`);
    }
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await main(process.argv.slice(2));
