/**
 * GETs of the key-value store: by RDMA READ, by a message over RDMA, and by a message over node:net; the same store in the
 * same server process, one after the other in each round.
 *
 *   node dist/tools/softrdma/cli.js -- node dist/bench/kv.js --device rxe0
 */
import { pathToFileURL } from 'node:url';
import { Command } from 'commander';
import { spawnServer } from '../examples/common/server-process.ts';
import { KvClient } from '../examples/kv/client.ts';
import { NetClient } from '../examples/kv/net.ts';
import { benchKeys, type Gettable, type Measured, measureGets } from '../examples/kv/workload.ts';

/** What is measured. */
export interface KvBenchOptions {
  readonly device: string;
  /** Address of the device; by default that of the soft one. */
  readonly host?: string;
  /** Bytes of the values, one table each. */
  readonly sizes: readonly number[];
  /** GETs at a time, of the rates; latencies are those of one at a time. */
  readonly depth: number;
  /** Keys to choose from. */
  readonly keys: number;
  /** Rounds that count; one before them does not. */
  readonly rounds: number;
  /** Of each measurement. */
  readonly seconds: number;
}

/** The medians of the rounds for one way and one size. */
export interface KvBenchRow {
  readonly device: string;
  readonly way: string;
  readonly size: number;
  /** Microseconds, one GET at a time. */
  readonly p50: number;
  /** Microseconds, one GET at a time. */
  readonly p99: number;
  /** GETs for one second, one at a time. */
  readonly rate: number;
  /** GETs for one second, `depth` at a time. */
  readonly deepRate: number;
}

export const KV_BENCH_DEFAULTS: KvBenchOptions = {
  device: 'rxe0',
  sizes: [64, 4096, 65_536],
  depth: 16,
  keys: 200,
  rounds: 3,
  seconds: 2,
};

const PORT = 7476;
/** Another one: on iWARP ports of RDMA are ports of TCP. */
const NET_PORT = 7477;

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

function softAddress(device: string): string {
  return device.startsWith('siw')
    ? (process.env.RDMA_SIW_ADDR ?? '10.0.2.1')
    : (process.env.RDMA_RXE_ADDR ?? '10.0.1.1');
}

/** Measures all ways on one device. */
export async function run(options: Partial<KvBenchOptions> = {}): Promise<KvBenchRow[]> {
  const settings = { ...KV_BENCH_DEFAULTS, ...options };
  const { device, sizes, depth, keys, rounds, seconds } = settings;
  const host = settings.host ?? softAddress(device);
  const server = await spawnServer('kv', ['--host', host, '--port', String(PORT), '--net', String(NET_PORT)]);
  const reader = await KvClient.connect({ host, port: PORT, device });
  const asker = await KvClient.connect({ host, port: PORT, device, oneSided: false });
  const net = await NetClient.connect(host, NET_PORT);
  const ways: Record<string, Gettable> = { 'RDMA READ': reader, 'RDMA message': asker, 'node:net': net };
  const rows: KvBenchRow[] = [];
  try {
    const names = benchKeys(keys);
    for (const size of sizes) {
      for (const key of names) await reader.put(key, Buffer.alloc(size, key));
      const results = new Map<string, { one: Measured; deep: Measured }[]>();
      for (let round = 0; round <= rounds; round++) {
        for (const [way, client] of Object.entries(ways)) {
          const one = await measureGets(client, names, { size, depth: 1, seconds });
          const deep = await measureGets(client, names, { size, depth, seconds });
          if (round > 0) results.set(way, [...(results.get(way) ?? []), { one, deep }]);
        }
      }
      for (const [way, measured] of results) {
        rows.push({
          device,
          way,
          size,
          p50: median(measured.map(({ one }) => one.p50)),
          p99: median(measured.map(({ one }) => one.p99)),
          rate: median(measured.map(({ one }) => one.rate)),
          deepRate: median(measured.map(({ deep }) => deep.rate)),
        });
      }
    }
    const { asked, tornBlocks, tornBuckets } = reader.counters;
    if (asked + tornBlocks + tornBuckets > 0) throw new Error('some GETs of the reader were not one-sided');
  } finally {
    await Promise.all([reader.close(), asker.close(), net.close()]);
    await server.end();
  }
  return rows;
}

/** The rows as a table, with the rates next to those of node:net. */
export function format(rows: readonly KvBenchRow[], depth: number): string {
  const lines = rows.map((row) => {
    const net = rows.find(({ size, way }) => size === row.size && way === 'node:net')!;
    const cells = [
      row.device.padEnd(5),
      row.way.padEnd(13),
      `${row.size}`.padStart(8),
      row.p50.toFixed(0).padStart(8),
      row.p99.toFixed(0).padStart(8),
      row.rate.toFixed(0).padStart(8),
      row.deepRate.toFixed(0).padStart(9),
      `${(row.p50 / net.p50).toFixed(2)} x`.padStart(9),
      `${(row.deepRate / net.deepRate).toFixed(2)} x`.padStart(10),
    ];
    return cells.join(' ');
  });
  const head = `dev   GET by           bytes   p50 us   p99 us  GETs/s ${`${depth} deep/s`.padStart(9)}  p50/net   deep/net`;
  return [head, ...lines].join('\n');
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  const program = new Command('kv')
    .description('GET latency and rate by RDMA READ, RDMA messages and node:net.')
    .option('--device <name>', 'RDMA device', KV_BENCH_DEFAULTS.device)
    .option('--host <address>', "the device's address (default: that of the soft device)")
    .option('--sizes <bytes...>', 'bytes of the values', KV_BENCH_DEFAULTS.sizes.map(String))
    .option('--depth <n>', 'GETs at a time', String(KV_BENCH_DEFAULTS.depth))
    .option('--keys <n>', 'keys to choose from', String(KV_BENCH_DEFAULTS.keys))
    .option('--rounds <n>', 'rounds that count', String(KV_BENCH_DEFAULTS.rounds))
    .option('--seconds <n>', 'of each measurement', String(KV_BENCH_DEFAULTS.seconds))
    .action(async ({ device, host, sizes, depth, keys, rounds, seconds }) => {
      const rows = await run({
        device,
        ...(host === undefined ? {} : { host }),
        sizes: sizes.map(Number),
        depth: Number(depth),
        keys: Number(keys),
        rounds: Number(rounds),
        seconds: Number(seconds),
      });
      console.log(format(rows, Number(depth)));
    });
  await program.parseAsync();
}
