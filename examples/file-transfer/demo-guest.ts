/** The part of the demonstration that runs where the RDMA devices are. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Command } from 'commander';
import { spawnServer } from '../common/server-process.ts';
import { FileClient, type TransferResult } from './client.ts';
import { createProgress, describeCounters, formatRate } from './progress.ts';
import { makeRandomFile } from './random-file.ts';
import { hasRcopy, startRcopy } from './rcopy.ts';
import { RdmaLink } from './rdma-link.ts';
import { DEFAULT_LIMITS } from './server.ts';
import { formatTable } from './table.ts';

interface Options {
  size: string;
  compare: boolean;
  address?: string;
}

const PORT = 7472;
const RCOPY_PORT = 7427;
const MiB = 1024 * 1024;

interface Report {
  rows: string[][];
  counters: string[];
}

/** The addresses to run over: those of the soft devices, or the one given. */
function addresses({ address }: Options): string[] {
  if (address !== undefined) return [address];
  const { RDMA_RXE_ADDR = '10.0.1.1', RDMA_SIW_ADDR = '10.0.2.1' } = process.env;
  return [RDMA_RXE_ADDR, RDMA_SIW_ADDR];
}

/** Runs one transfer with a bar, or a line where there is no terminal. */
async function show(
  label: string,
  run: (onProgress: (done: number, size: number) => void) => Promise<TransferResult>,
) {
  const progress = createProgress(label);
  try {
    const result = await run((done, size) => progress.update(done, size));
    progress.stop();
    if (!process.stderr.isTTY)
      console.log(`${label}: ${formatRate(result.bytes, result.seconds)}, hashes equal`);
    return result;
  } finally {
    progress.stop();
  }
}

function row(
  device: string,
  way: string,
  { bytes, seconds, verifySeconds, sha256 }: TransferResult,
  rcopy: number | undefined,
) {
  const rate = bytes / seconds;
  const ratio = rcopy === undefined ? [] : [`${(rate / rcopy).toFixed(2)} x`];
  const whole = formatRate(bytes, seconds + verifySeconds);
  return [
    device,
    way,
    formatRate(bytes, seconds),
    whole,
    ...ratio,
    `${sha256.slice(0, 8)}…${sha256.slice(-8)} equal`,
  ];
}

async function demonstrate(
  address: string,
  directory: string,
  options: Options,
  report: Report,
): Promise<void> {
  const file = join(directory, 'file');
  const server = await spawnServer('file-transfer', [directory, '--host', address, '--port', String(PORT)]);
  try {
    const link = await RdmaLink.connect({ host: address, port: PORT }, DEFAULT_LIMITS);
    const device = link.device;
    const client = new FileClient(link);
    const put = await show(`${device} put`, (onProgress) => client.put(file, 'stored', { onProgress }));
    const got = join(directory, 'fetched');
    const get = await show(`${device} get`, (onProgress) => client.get('stored', got, { onProgress }));
    report.counters.push(`${device} client: ${describeCounters(client.counters)}`);
    await client.close();
    const rcopy = options.compare
      ? await compare(device, address, file, join(directory, 'copied'))
      : undefined;
    report.rows.push(row(device, 'put (RDMA READ)', put, rcopy), row(device, 'get (RDMA WRITE)', get, rcopy));
    await server.end();
    const [, counters] = /: closed; (.*)/.exec(server.output()) ?? [];
    report.counters.push(`${device} server: ${counters}`);
  } finally {
    await server.end();
    for (const name of ['stored', 'fetched', 'copied']) await rm(join(directory, name), { force: true });
  }
}

async function compare(device: string, address: string, file: string, copy: string): Promise<number> {
  const server = startRcopy(address, RCOPY_PORT);
  try {
    const rate = await server.copy(file, copy);
    console.log(`${device} rcopy (C, for comparison): ${formatRate(rate, 1)}`);
    return rate;
  } finally {
    server.close();
    await sleep(100);
  }
}

async function run(options: Options): Promise<void> {
  const compareToo = options.compare && hasRcopy();
  const bytes = Number(options.size) * MiB;
  if (!(bytes > 0)) throw new Error(`--size is ${options.size}; give MiB, as in 256`);
  const directory = await mkdtemp(join(tmpdir(), 'rdma-demo-'));
  const report: Report = { rows: [], counters: [] };
  try {
    console.log(`A file of ${options.size} MiB of random bytes goes to a server process and comes back.`);
    await makeRandomFile(join(directory, 'file'), bytes);
    for (const address of addresses(options)) {
      await demonstrate(address, directory, { ...options, compare: compareToo }, report);
    }
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
  const head = [
    'device',
    'transfer',
    'file to file',
    'with hashing',
    ...(compareToo ? ['to rcopy'] : []),
    'SHA-256 of both ends',
  ];
  console.log(`\n${formatTable(head, report.rows)}`);
  console.log(
    '\nHow memory was reached, operations and bytes per strategy (file data move from and to the server):',
  );
  for (const line of report.counters) console.log(`  ${line}`);
}

try {
  await new Command('demo-guest')
    .option('--size <MiB>', '', '256')
    .option('--address <address>')
    .option('--no-compare')
    .action(run)
    .parseAsync();
} catch (error) {
  console.error(`error: ${(error as Error).message}`);
  process.exitCode = 1;
}
