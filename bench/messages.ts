/**
 * The rate of small messages: ours next to pyverbs on the same device, and next to node:net over TCP in the same boot. Two
 * processes each, alternately.
 *
 *   node dist/tools/softrdma/cli.js -- node dist/bench/messages.js --device rxe0 --device siw0
 */
import { once } from 'node:events';
import { type AddressInfo, connect, createServer } from 'node:net';
import { fileURLToPath } from 'node:url';
import { Command } from 'commander';
import { deviceOption } from './device-option.ts';
import type { Cell } from './perf/options.ts';
import { runNode, start } from './perf/programs.ts';
import { findPython, NO_PYVERBS } from './python.ts';
import { writeJson } from './results.ts';
import { softHosts } from './soft-hosts.ts';
import { digits, median } from './stats.ts';

const SIZE = 64;
const DEPTH = 128;
const own = fileURLToPath(import.meta.url);
/** Python is no program for dist/, so it stays where it is. */
const script = fileURLToPath(new URL('../../bench/perf/pyverbs-rate.py', import.meta.url));
let nextPort = 7600;

/** Runs a server until it says its first line, then a client; the number that the client prints. */
async function pairOf(file: string, args: (role: string, first: string) => string[]): Promise<number> {
  const server = start(file, args('server', ''));
  try {
    const first = await server.firstLine;
    const { status, output } = await start(file, args('client', first)).ended;
    if (status !== 0) throw new Error(`${file} failed:\n${output}\nserver: ${first}`);
    return Number(output);
  } finally {
    server.kill();
    await server.ended;
  }
}

async function ours(device: string, list: number, count: number): Promise<number> {
  const cell: Cell = { test: 'send_bw', size: SIZE, iterations: count, depth: DEPTH, list, moderation: 32 };
  return (await runNode({ device, host: softHosts[device]! }, cell, 'poll')).messagesPerSecond;
}

function pyverbs(python: string, device: string, count: number): Promise<number> {
  nextPort += 1;
  const port = String(nextPort);
  return pairOf(python, (role) => [
    script,
    role,
    softHosts[device]!,
    port,
    ...[SIZE, count, DEPTH / 2].map(String),
  ]);
}

function net(count: number): Promise<number> {
  return pairOf(process.execPath, (role, port) => [own, `net-${role}`, String(count), port]);
}

/** Takes one stream, and says with a byte when all of it has come. */
async function netServer(count: number): Promise<void> {
  const server = createServer((socket) => {
    let left = count * SIZE;
    socket.on('data', (chunk) => {
      left -= chunk.length;
      if (left === 0) socket.end('.');
    });
    socket.on('close', () => server.close());
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  console.log((server.address() as AddressInfo).port);
}

async function netClient(port: number, count: number): Promise<void> {
  const socket = connect({ host: '127.0.0.1', port, noDelay: true });
  await once(socket, 'connect');
  const message = Buffer.alloc(SIZE);
  const begun = performance.now();
  for (let sent = 0; sent < count; sent += 1) {
    if (!socket.write(message)) await once(socket, 'drain');
  }
  await once(socket, 'data');
  console.log(count / ((performance.now() - begun) / 1000));
}

interface MessageOptions {
  readonly device: readonly string[];
  readonly count: number;
  readonly pairs: number;
}

async function measure(device: string, { count, pairs }: MessageOptions): Promise<unknown> {
  const python = findPython();
  if (python === undefined) console.log(NO_PYVERBS);
  const ways: Record<string, () => Promise<number>> = {
    'lists of 32': () => ours(device, 32, count),
    'lists of 1': () => ours(device, 1, count),
    ...(python === undefined ? {} : { pyverbs: () => pyverbs(python, device, Math.ceil(count / 10)) }),
    'node:net': () => net(count),
  };
  const rates = Object.fromEntries(Object.keys(ways).map((name) => [name, [] as number[]]));
  for (let pair = 0; pair < pairs; pair += 1) {
    for (const [name, run] of Object.entries(ways)) {
      try {
        rates[name]?.push(await run());
      } catch (error) {
        console.log(`${device} ${name}: ${error instanceof Error ? error.message : error}`);
        rates[name]?.push(Number.NaN);
      }
    }
  }
  const best = rates['lists of 32']!;
  const rows = Object.entries(rates).map(([name, values]) => {
    const ratio = median(values.map((value, i) => best[i]! / value).filter(Number.isFinite));
    const rate = median(values.filter(Number.isFinite));
    console.log(
      `${device} ${name.padEnd(12)} ${digits(rate).padStart(9)} messages/s  lists of 32: ${digits(ratio)} x`,
    );
    return { name, rate, ratio };
  });
  return { device, rows };
}

const [role, count, port] = process.argv.slice(2);
if (role === 'net-server') await netServer(Number(count));
else if (role === 'net-client') await netClient(Number(port), Number(count));
else {
  const program = new Command('messages')
    .addOption(deviceOption('rxe0 and siw0'))
    .option('--count <n>', 'messages of one run; a tenth of them by pyverbs', Number, 20_000)
    .option('--pairs <n>', 'how often each is measured', Number, 3);
  const options = program.parse().opts<MessageOptions>();
  const results: unknown[] = [];
  for (const device of options.device.length > 0 ? options.device : ['rxe0', 'siw0']) {
    results.push(await measure(device, options));
  }
  console.log(writeJson('messages', results));
}
