/**
 * What many connections cost, and what the event loop has left: memory of idle ones, the rate over many on one completion
 * queue, completions of one wake-up, and the lag of an HTTP server in the same process.
 *
 *   node dist/tools/softrdma/cli.js -- node dist/bench/scale.js --device rxe0 --device siw0
 */
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createServer, get } from 'node:http';
import type { AddressInfo } from 'node:net';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { Command } from 'commander';
import { Access, type CompletionQueue, type MemorySlab, type QueuePair, SendFlags } from '../lib/index.ts';
import { deviceOption } from './device-option.ts';
import { type Loopback, openLoopback } from './loopback.ts';
import { writeJson } from './results.ts';
import { softHosts } from './soft-hosts.ts';
import { digits, median, quantile } from './stats.ts';

const LIST = 16;
const BYTES = 64;
/** Lists in flight at a time. */
const IN_FLIGHT = 4;

/** Bytes that are left to the machine, so that what the kernel holds for a queue pair counts as well. */
function available(): number {
  const [, kilobytes] = /^MemAvailable:\s+(\d+)/m.exec(readFileSync('/proc/meminfo', 'utf8')) ?? [];
  return Number(kilobytes) * 1024;
}

/** Bytes of this process, and of the whole machine, that one of [count] of what [make] makes takes. */
async function memoryOf(count: number, make: () => unknown): Promise<{ process: number; machine: number }> {
  for (let i = 0; i < 8; i += 1) await make();
  globalThis.gc?.();
  const [resident, free] = [process.memoryUsage.rss(), available()];
  for (let i = 0; i < count; i += 1) await make();
  globalThis.gc?.();
  return {
    process: (process.memoryUsage.rss() - resident) / count,
    machine: (free - available()) / count,
  };
}

/** WRITEs of [BYTES] in lists, one list after the other to each of [qps]; messages per second. */
function rate(qps: readonly QueuePair[], cq: CompletionQueue, slab: MemorySlab, seconds: number): number {
  const { addr, mr } = slab;
  let posted = 0;
  let done = 0;
  const onRetired = (status: number): void => {
    if (status !== 0) throw new Error(`a WRITE ended with the status ${status}`);
    done += 1;
  };
  const start = performance.now();
  const end = start + seconds * 1000;
  for (let turn = 0; performance.now() < end; turn += 1) {
    const { sendBatch } = qps[turn % qps.length]!;
    if (sendBatch.free >= LIST && posted - done < LIST * IN_FLIGHT) {
      for (let i = 1; i <= LIST; i += 1) {
        sendBatch.write(addr, BYTES, mr.lkey, addr + BYTES, mr.rkey, i === LIST ? SendFlags.SIGNALED : 0);
      }
      posted += sendBatch.post(onRetired);
    } else {
      cq.poll(1000);
    }
  }
  while (done < posted) cq.poll(1000);
  return done / ((performance.now() - start) / 1000);
}

/** WRITEs that the completions of others post, through the event loop, until [stopped]. */
class Stream {
  completions = 0;
  /** Batches of completions that the event loop has brought. */
  wakeUps = 0;
  #running = true;
  readonly #qp: QueuePair;
  readonly #slab: MemorySlab;

  constructor(qp: QueuePair, slab: MemorySlab, depth: number) {
    this.#qp = qp;
    this.#slab = slab;
    for (let i = 0; i < depth; i += 1) this.#post();
  }

  async stop(): Promise<void> {
    this.#running = false;
    while (this.#qp.sendFree < this.#qp.caps.maxSendWr) await sleep(1);
  }

  #post(): void {
    const batch = this.#qp.sendBatch;
    const { addr, mr } = this.#slab;
    batch.write(addr, BYTES, mr.lkey, addr + BYTES, mr.rkey, SendFlags.SIGNALED);
    batch.post(this.#onRetired);
  }

  readonly #onRetired = (_status: number, _byteLen: number, wc: number): void => {
    this.completions += 1;
    if (wc === 0) this.wakeUps += 1;
    if (this.#running) this.#post();
  };
}

/** Times of requests to an HTTP server in this process from another process, and the delay of this event loop; ms. */
async function httpLag(seconds: number): Promise<{ p50: number; p99: number; loopP99: number }> {
  const server = createServer((_, response) => response.end('ok')).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  const delay = monitorEventLoopDelay({ resolution: 1 });
  const client = fork(fileURLToPath(import.meta.url), ['http-client', String(port), String(seconds)]);
  await once(client, 'message');
  delay.enable();
  const [times] = (await once(client, 'message')) as [number[]];
  delay.disable();
  server.closeAllConnections();
  server.close();
  return { p50: quantile(times, 0.5), p99: quantile(times, 0.99), loopP99: delay.percentile(99) / 1e6 };
}

async function httpClient(port: number, seconds: number): Promise<void> {
  const request = async (): Promise<number> => {
    const start = performance.now();
    const call = get({ port, host: '127.0.0.1', path: '/' });
    const [response] = (await once(call, 'response')) as [NodeJS.ReadableStream];
    response.resume();
    await once(response, 'end');
    return performance.now() - start;
  };
  for (let i = 0; i < 20; i += 1) await request();
  process.send!('ready');
  const times: number[] = [];
  for (const end = performance.now() + seconds * 1000; performance.now() < end; ) times.push(await request());
  process.send!(times, () => process.exit());
}

interface ScaleOptions {
  readonly device: readonly string[];
  readonly connections: readonly number[];
  readonly seconds: number;
}

/** Connects until there are [count]; says what stopped it otherwise. */
async function connectUpTo(
  count: number,
  qps: QueuePair[],
  loopback: Loopback,
  cq: CompletionQueue,
): Promise<string | undefined> {
  try {
    while (qps.length < count) qps.push(await loopback.connect({ cq, maxSendWr: LIST }));
    return undefined;
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}

async function measure(name: string, options: ScaleOptions): Promise<unknown> {
  const most = Math.max(...options.connections, 128);
  const loopback = await openLoopback(softHosts[name]!, Math.min(4 * most, 32_000));
  const { device, pd } = loopback;
  console.log(
    `${name}: at most ${device.attr.maxQp} queue pairs, ${device.attr.maxCqe} entries of a completion queue`,
  );
  const slab = await pd.allocSlab(4096, Access.LOCAL_WRITE | Access.REMOTE_WRITE);
  const cq = device.createCq({ cqe: Math.min(most * (LIST + 2) + 1024, device.attr.maxCqe) });
  const kib = (bytes: number): string => `${digits(bytes / 1024)} KiB`;

  const idle = await memoryOf(100, () => pd.createQp({ sendCq: cq, maxSendWr: LIST, maxRecvWr: 1 }));
  console.log(
    `  an idle queue pair: ${kib(idle.process)} of the process, ${kib(idle.machine)} of the machine`,
  );

  const qps: QueuePair[] = [];
  await connectUpTo(1, qps, loopback, cq);
  // Both ends are in this process.
  const both = await memoryOf(50, async () => qps.push(await loopback.connect({ cq, maxSendWr: LIST })));
  const connection = { process: both.process / 2, machine: both.machine / 2 };
  console.log(
    `  an idle connection: ${kib(connection.process)} of the process, ${kib(connection.machine)} of the machine`,
  );

  rate(qps.slice(0, 1), cq, slab, options.seconds / 2);
  const rates: { count: number; rate: number; ratio: number }[] = [];
  let limit: string | undefined;
  for (const count of options.connections) {
    limit = await connectUpTo(count, qps, loopback, cq);
    const some = qps.slice(0, count);
    // Each next to one connection, because the machine may have other things to do.
    const pairs = Array.from({ length: 3 }, () => [
      rate(qps.slice(0, 1), cq, slab, options.seconds),
      rate(some, cq, slab, options.seconds),
    ]);
    const ratio = median(pairs.map(([one, many]) => many! / one!));
    rates.push({ count: some.length, rate: median(pairs.map(([, many]) => many!)), ratio });
    console.log(
      `  ${some.length} connections: ${digits(rates.at(-1)!.rate)} messages/s, ${digits(ratio)} of one's`,
    );
    if (limit === undefined) continue;
    console.log(`  no more than ${qps.length} connections: ${limit}`);
    break;
  }

  const wakeUps: { depth: number; perWakeUp: number; microseconds: number }[] = [];
  for (const depth of [1, 4, LIST]) {
    const stream = new Stream(qps[0]!, slab, depth);
    const start = performance.now();
    await sleep(options.seconds * 1000);
    await stream.stop();
    const microseconds = ((performance.now() - start) * 1000) / stream.completions;
    wakeUps.push({ depth, perWakeUp: stream.completions / stream.wakeUps, microseconds });
    console.log(
      `  ${depth} in flight: ${digits(wakeUps.at(-1)!.perWakeUp)} completions per wake-up, ${digits(microseconds)} µs each`,
    );
  }

  const quiet = await httpLag(options.seconds * 2);
  const stream = new Stream(qps[0]!, slab, LIST);
  const busy = await httpLag(options.seconds * 2);
  const { completions } = stream;
  await stream.stop();
  const lag = ({ p50, p99, loopP99 }: typeof quiet): string =>
    `p50 ${digits(p50)} ms, p99 ${digits(p99)} ms, event loop p99 ${digits(loopP99)} ms`;
  console.log(`  HTTP alone: ${lag(quiet)}`);
  console.log(`  HTTP with ${digits(completions)} WRITEs meanwhile: ${lag(busy)}`);
  loopback.close();
  return { device: name, idle, connection, rates, limit, wakeUps, http: { quiet, busy } };
}

if (process.argv[2] === 'http-client') {
  await httpClient(Number(process.argv[3]), Number(process.argv[4]));
} else {
  const numbers = (text: string): number[] => text.split(',').map(Number);
  const program = new Command('scale')
    .addOption(deviceOption('rxe0 and siw0'))
    .option('--connections <list>', 'how many, in order', numbers, [1, 10, 100, 1000])
    .option('--seconds <s>', 'of each measurement', Number, 1);
  const options = program.parse().opts<ScaleOptions>();
  const results: unknown[] = [];
  for (const name of options.device.length > 0 ? options.device : ['rxe0', 'siw0']) {
    results.push(await measure(name, options));
  }
  console.log(writeJson('scale', results));
  process.exit();
}
