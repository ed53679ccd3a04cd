/**
 * Sockets of node-rdma/net against rstream and riostream (rdmacm-utils), which are C over the same protocol: two processes
 * each, the same traffic, the same buffers, in one boot.
 *
 *   node dist/tools/softrdma/cli.js -- node dist/bench/net-stream.js --device rxe0 --device siw0
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { Command } from 'commander';
import { deviceOption } from './device-option.ts';
import { call, serve, WAYS, type Way } from './net-stream/ends.ts';
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

/** Rates of one way of Node, bytes per second. */
interface WayResult {
  readonly way: Way;
  /** Median of all rounds. */
  readonly rate: number;
  /** The fastest of the program in C that does the same, and the median of the rounds' ratios to it. */
  readonly twin: string;
  readonly ratio: number;
}

/** One size; bytes per second, medians of all rounds. */
interface StreamResult {
  readonly device: string;
  readonly size: number;
  readonly count: number;
  readonly node: readonly WayResult[];
  readonly c: Readonly<Record<string, number>>;
}

const SIZES = [64, 4096, 65_536, 1_048_576];
/** Of one run; less when they are large. */
const MOST_TRANSFERS = 100_000;

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

async function nodeRate(way: Way, host: string, port: number, size: number, count: number): Promise<number> {
  const self = fileURLToPath(import.meta.url);
  const args = [way, host, String(port), String(size), String(count)];
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
  readonly bytes?: number;
  readonly rounds: number;
}

let nextPort = 7600;

async function measure(device: string, size: number, options: StreamOptions): Promise<StreamResult> {
  const host = options.host ?? softHosts[device];
  if (host === undefined) throw new Error(`--host: the address of ${device} is not known`);
  // So that each takes about as long: memory to memory siw is six times as fast as rxe.
  const bytes = options.bytes ?? (device.startsWith('siw') ? 400 : 64) * 1024 * 1024;
  const count = Math.max(1, Math.min(MOST_TRANSFERS, Math.floor(bytes / size)));
  const ways = Object.keys(WAYS) as Way[];
  const node = ways.map((): number[] => []);
  const c = twins.map((): number[] => []);
  for (let round = 0; round < options.rounds; round++) {
    for (const [i, way] of ways.entries()) {
      node[i]!.push(await nodeRate(way, host, nextPort++, size, count));
    }
    for (const [i, twin] of twins.entries()) {
      c[i]!.push(await twinRate(twin, host, nextPort++, size, count));
    }
  }
  const medians = c.map(median);
  return {
    device,
    size,
    count,
    node: ways.map((way, i) => {
      const fastest = [...twins.keys()]
        .filter((j) => twins[j]!.program === WAYS[way])
        .reduce((best, j) => (medians[j]! > medians[best]! ? j : best));
      const ratio = median(node[i]!.map((rate, round) => rate / c[fastest]![round]!));
      return { way, rate: median(node[i]!), twin: twins[fastest]!.name, ratio };
    }),
    c: Object.fromEntries(twins.map(({ name }, i) => [name, medians[i]!])),
  };
}

function describe({ device, size, node, c }: StreamResult): string {
  const mb = (rate: number): string => digits(rate / 1e6);
  const ours = node.map(({ way, rate, twin, ratio }) => `${way} ${mb(rate)} (${digits(ratio)} x ${twin})`);
  const theirs = Object.entries(c).map(([name, rate]) => `${name} ${mb(rate)}`);
  return `${device} ${String(size).padStart(8)} B, MB/s: ${ours.join(', ')}; ${theirs.join(', ')}`;
}

const [role, ...rest] = process.argv.slice(2);
if (role === 'serve' || role === 'call') {
  const [way, host, port, size, count] = rest as [Way, string, string, string, string];
  await (role === 'serve' ? serve : call)(way, host, Number(port), Number(size), Number(count));
} else {
  const options = new Command('net-stream')
    .addOption(deviceOption('rxe0 and siw0'))
    .option('--host <address>', "address of the device's port, where it is not a soft one")
    .option('--sizes <list>', 'bytes of a transfer', (text: string) => text.split(',').map(Number), SIZES)
    .option('--bytes <n>', 'bytes of one direction; by default 64 MiB, on siw 400 MiB', Number)
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
