/**
 * How fast files go, against C: alternates the file-transfer example (put and get), rcopy (rdmacm-utils), the library's
 * RDMA WRITE and ib_write_bw (perftest), both from memory to memory, on one device; prints medians and ratios.
 *
 *   node dist/tools/softrdma/cli.js -- node dist/bench/transfer-ratio.js --device rxe0
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Command } from 'commander';
import { spawnServer } from '../examples/common/server-process.ts';
import { FileClient, type TransferResult } from '../examples/file-transfer/client.ts';
import type { HashTime } from '../examples/file-transfer/protocol.ts';
import { makeRandomFile } from '../examples/file-transfer/random-file.ts';
import { hasRcopy, run, startRcopy } from '../examples/file-transfer/rcopy.ts';
import { RdmaLink } from '../examples/file-transfer/rdma-link.ts';
import { memoryWrite } from './memory-write.ts';

interface Options {
  device: string;
  host?: string;
  pairs: string;
  size: string;
  chunk: string;
  depth: string;
  hash: HashTime;
  perftest: boolean;
}

const MiB = 1024 * 1024;

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

/** Bytes per second of ib_write_bw, average of its run. */
async function writeBandwidth(device: string, host: string, port: number): Promise<number> {
  const how = device.startsWith('siw') ? ['-R'] : ['-x', '1'];
  const args = ['-d', device, ...how, '-s', String(MiB), '-n', '300', '-F', '-p', String(port)];
  const server = run('ib_write_bw', args);
  await sleep(500);
  const output = await run('ib_write_bw', [...args, host]);
  await server;
  const [, average] = /^\s*1048576\s+\d+\s+[\d.]+\s+([\d.]+)/m.exec(output) ?? [];
  if (average === undefined) throw new Error(`ib_write_bw failed:\n${output}`);
  return Number(average) * MiB;
}

async function measure(options: Options): Promise<void> {
  const { device, pairs, size, chunk, depth, hash } = options;
  const soft = device.startsWith('siw')
    ? (process.env.RDMA_SIW_ADDR ?? '10.0.2.1')
    : (process.env.RDMA_RXE_ADDR ?? '10.0.1.1');
  const host = options.host ?? soft;
  const directory = await mkdtemp(join(tmpdir(), 'transfer-ratio-'));
  const file = join(directory, 'file');
  await makeRandomFile(file, Number(size) * MiB);
  const limits = ['--chunk', String(Number(chunk) * 1024), '--depth', depth];
  const server = await spawnServer('file-transfer', [directory, '--host', host, '--port', '7473', ...limits]);
  const rcopy = hasRcopy() ? startRcopy(host, 7427) : undefined;
  const results: Record<string, number[]> = {};
  const note = (name: string, rate: number): void => {
    results[name] = [...(results[name] ?? []), rate];
  };
  const noteTransfer = (name: string, { bytes, seconds, verifySeconds }: TransferResult): void => {
    note(name, bytes / seconds);
    note(`${name} with verification`, bytes / (seconds + verifySeconds));
  };
  try {
    // The first round warms caches and is not counted.
    for (let round = 0; round <= Number(pairs); round++) {
      const limits = { chunkBytes: Number(chunk) * 1024, depth: Number(depth) };
      const client = new FileClient(await RdmaLink.connect({ host, port: 7473 }, limits));
      noteTransfer('put', await client.put(file, 'put', { hash }));
      noteTransfer('get', await client.get('file', join(directory, 'got'), { hash }));
      await client.close();
      if (rcopy) note('rcopy', await rcopy.copy(file, join(directory, 'copied')));
      note('memory to memory WRITE', await memoryWrite(host, MiB, 300, 16));
      if (options.perftest) note('ib_write_bw', await writeBandwidth(device, host, 18515 + round));
      for (const name of ['put', 'got', 'copied']) await rm(join(directory, name), { force: true });
      if (round === 0) for (const name of Object.keys(results)) delete results[name];
    }
  } finally {
    rcopy?.close();
    await server.end();
    await rm(directory, { recursive: true });
  }
  print(device, options, results);
}

function print(
  device: string,
  { size, chunk, depth, hash, pairs }: Options,
  results: Record<string, number[]>,
): void {
  console.log(
    `${device}: ${size} MiB, chunk ${chunk} KiB, depth ${depth}, hash ${hash}, ${pairs} rounds; MB/s, median (lowest to highest)`,
  );
  const reference = ['rcopy', 'ib_write_bw'].filter((name) => results[name]);
  for (const [name, rates] of Object.entries(results)) {
    const mb = (rate: number): string => (rate / 1e6).toFixed(0);
    const ratios = reference
      .filter((other) => other !== name)
      .map((other) => `${(median(rates) / median(results[other]!)).toFixed(2)} x ${other}`);
    const range = `(${mb(Math.min(...rates))} to ${mb(Math.max(...rates))})`;
    console.log(
      `  ${name.padEnd(22)} ${mb(median(rates)).padStart(6)} ${range.padEnd(16)} ${ratios.join(', ')}`,
    );
  }
}

await new Command('transfer-ratio')
  .description('File transfer against rcopy and ib_write_bw on one device.')
  .option('--device <name>', 'RDMA device', 'rxe0')
  .option('--host <address>', "the device's address (default: that of the soft device)")
  .option('--pairs <n>', 'rounds that count', '5')
  .option('--size <MiB>', 'size of the file', '256')
  .option('--chunk <KiB>', 'bytes of a chunk', '2048')
  .option('--depth <n>', 'chunks in flight', '4')
  .option('--hash <when>', 'during or after', 'after')
  .option('--no-perftest', 'leave out ib_write_bw')
  .action(measure)
  .parseAsync();
