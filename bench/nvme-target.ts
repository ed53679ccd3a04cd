/**
 * The NVMe target of examples/ against the kernel's own (nvmet-rdma), in one boot, under the kernel's initiator: 4 k random
 * reads and 128 k sequential reads, 32 deep, of the same file and of memory. Prints medians and ratios.
 *
 *   node dist/tools/softrdma/cli.js -- node dist/bench/nvme-target.js --device rxe0
 */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { Command, Option } from 'commander';

export interface NvmeBenchOptions {
  readonly device: 'rxe0' | 'siw0';
  /** Rounds that count; one before them warms caches. */
  readonly rounds: number;
  /** Of one measurement. */
  readonly seconds: number;
}

/** What was measured of one target. */
export interface NvmeBenchResult {
  readonly target: string;
  /** Of the same backend, in the kernel; undefined for the kernel itself. */
  readonly against: string | undefined;
  /** 4 k random reads a second, median. */
  readonly iops: number;
  /** Bytes a second of 128 k sequential reads, median. */
  readonly rate: number;
}

const FILE = '/tmp/nvme-bench-disk';
const FILE_BYTES = 64 * 1024 * 1024;
/** The kernel's RAM disk, whose size is built in. */
const RAM_DISK = '/dev/ram0';
const CONFIGFS = '/sys/kernel/config';
const NVMET = `${CONFIGFS}/nvmet`;
const nqn = (name: string): string => `nqn.2026-11.org.node-rdma:bench-${name}`;

interface Subject {
  readonly target: string;
  readonly against?: string;
  readonly port: number;
  /** The backend of a kernel target. */
  readonly backend?: string;
  /** Options of ours. */
  readonly options?: readonly string[];
}

const subjects: readonly Subject[] = [
  { target: 'kernel, file', port: 4431, backend: FILE },
  { target: 'Node, file', against: 'kernel, file', port: 4432, options: ['-f', FILE] },
  {
    target: 'Node, file, --sync-files',
    against: 'kernel, file',
    port: 4433,
    options: ['-f', FILE, '--sync-files'],
  },
  { target: 'kernel, RAM disk', port: 4434, backend: RAM_DISK },
  { target: 'Node, memory', against: 'kernel, RAM disk', port: 4435, options: ['-m', '4M'] },
];

function addressOf(device: NvmeBenchOptions['device']): string {
  return device === 'rxe0'
    ? (process.env.RDMA_RXE_ADDR ?? '10.0.1.1')
    : (process.env.RDMA_SIW_ADDR ?? '10.0.2.1');
}

/** Configures nvmet; returns what undoes it. */
function startKernelTarget(address: string, port: number, backend: string): () => void {
  if (!existsSync(NVMET)) execFileSync('mount', ['-t', 'configfs', 'none', CONFIGFS]);
  const subsystem = `${NVMET}/subsystems/${nqn(String(port))}`;
  const namespace = `${subsystem}/namespaces/1`;
  const listener = `${NVMET}/ports/${port}`;
  mkdirSync(subsystem);
  writeFileSync(`${subsystem}/attr_allow_any_host`, '1');
  mkdirSync(namespace);
  writeFileSync(`${namespace}/device_path`, backend);
  // Through the page cache, as ours.
  writeFileSync(`${namespace}/buffered_io`, '1');
  writeFileSync(`${namespace}/enable`, '1');
  mkdirSync(listener);
  const where = {
    addr_adrfam: 'ipv4',
    addr_trtype: 'rdma',
    addr_traddr: address,
    addr_trsvcid: String(port),
  };
  for (const [name, value] of Object.entries(where)) writeFileSync(`${listener}/${name}`, value);
  const link = `${listener}/subsystems/${nqn(String(port))}`;
  symlinkSync(subsystem, link);
  return () => {
    rmSync(link);
    rmdirSync(listener);
    writeFileSync(`${namespace}/enable`, '0');
    rmdirSync(namespace);
    rmdirSync(subsystem);
  };
}

async function startOurTarget(
  address: string,
  port: number,
  options: readonly string[],
): Promise<ChildProcess> {
  const cli = resolve(fileURLToPath(import.meta.url), '../../examples/nvme-target/cli.js');
  const args = [cli, '-a', address, '-p', String(port), '-n', nqn(String(port)), ...options];
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] });
  let output = '';
  child.stdout.on('data', (data: Buffer) => {
    output += data.toString();
  });
  while (!output.includes('listening')) {
    if (child.exitCode !== null) throw new Error(`the target has ended: ${output}`);
    await sleep(50);
  }
  return child;
}

/** Connects the kernel's initiator; returns the block device. */
async function connect(address: string, port: number): Promise<string> {
  const id = randomUUID();
  const host = `hostnqn=nqn.2014-08.org.nvmexpress:uuid:${id},hostid=${id}`;
  const where = `transport=rdma,traddr=${address},trsvcid=${port},nqn=${nqn(String(port))}`;
  execFileSync('sh', ['-c', `echo '${where},${host}' > /dev/nvme-fabrics`]);
  const root = '/sys/class/nvme';
  for (let i = 0; i < 200; i++) {
    const controller = readdirSync(root).find(
      (name) => readFileSync(`${root}/${name}/subsysnqn`, 'utf8').trim() === nqn(String(port)),
    );
    const disk =
      controller && readdirSync(`${root}/${controller}`).find((name) => /^nvme\d+n\d+$/.test(name));
    if (disk && existsSync(`/dev/${disk}`)) return `/dev/${disk}`;
    await sleep(50);
  }
  throw new Error(`${nqn(String(port))} has no namespace`);
}

/** One run of fio on a device: reads a second, and bytes a second. */
async function fio(
  disk: string,
  mode: 'randread' | 'read',
  block: string,
  seconds: number,
): Promise<[number, number]> {
  const args = ['--name=bench', `--filename=${disk}`, '--direct=1', '--ioengine=libaio', `--rw=${mode}`];
  args.push(`--bs=${block}`, '--iodepth=32', '--time_based', `--runtime=${seconds}`, '--output-format=json');
  const child = spawn('fio', args, { stdio: ['ignore', 'pipe', 'inherit'] });
  let output = '';
  for await (const data of child.stdout) output += data;
  const { read } = JSON.parse(output).jobs[0];
  return [read.iops, read.bw_bytes];
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[sorted.length >> 1]!;
}

/** Measures; needs the kernel of softrdma, or root on a machine with nvmet-rdma and nvme-rdma loaded. */
export async function run({ device, rounds, seconds }: NvmeBenchOptions): Promise<NvmeBenchResult[]> {
  const address = addressOf(device);
  writeFileSync(FILE, Buffer.alloc(FILE_BYTES, 'nvme bench '));
  const undo: (() => void)[] = [];
  const children: ChildProcess[] = [];
  const disks = new Map<Subject, string>();
  const measured = new Map<Subject, { iops: number[]; rates: number[] }>();
  try {
    for (const subject of subjects) {
      const { port, backend, options } = subject;
      if (backend !== undefined) undo.push(startKernelTarget(address, port, backend));
      else children.push(await startOurTarget(address, port, options ?? []));
      disks.set(subject, await connect(address, port));
      measured.set(subject, { iops: [], rates: [] });
    }
    for (let round = 0; round <= rounds; round++) {
      for (const subject of subjects) {
        const [iops] = await fio(disks.get(subject)!, 'randread', '4k', seconds);
        const [, rate] = await fio(disks.get(subject)!, 'read', '128k', seconds);
        if (round === 0) continue;
        measured.get(subject)!.iops.push(iops);
        measured.get(subject)!.rates.push(rate);
      }
    }
  } finally {
    execFileSync('nvme', ['disconnect-all'], { timeout: 60_000 });
    for (const child of children) child.kill('SIGINT');
    for (const one of undo) one();
    rmSync(FILE, { force: true });
  }
  return subjects.map((subject) => ({
    target: subject.target,
    against: subject.against,
    iops: median(measured.get(subject)!.iops),
    rate: median(measured.get(subject)!.rates),
  }));
}

function print(results: readonly NvmeBenchResult[]): void {
  for (const { target, against, iops, rate } of results) {
    const other = results.find((one) => one.target === against);
    const ratios =
      other && `${(iops / other.iops).toFixed(2)} x, ${(rate / other.rate).toFixed(2)} x ${other.target}`;
    const figures = `${iops.toFixed(0).padStart(6)} IOPS ${(rate / 1e6).toFixed(0).padStart(5)} MB/s`;
    console.log(`  ${target.padEnd(26)} ${figures}  ${ratios ?? ''}`);
  }
}

async function main({
  device,
  rounds,
  seconds,
}: {
  device: string;
  rounds: string;
  seconds: string;
}): Promise<void> {
  const options = {
    device: device as NvmeBenchOptions['device'],
    rounds: Number(rounds),
    seconds: Number(seconds),
  };
  const results = await run(options);
  console.log(`${device}: 4 k random reads, 128 k sequential reads, 32 deep; medians of ${rounds} rounds`);
  print(results);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  await new Command('nvme-target')
    .description("The NVMe target of examples/ against the kernel's, in one boot.")
    .addOption(new Option('--device <name>', 'RDMA device').choices(['rxe0', 'siw0']).default('rxe0'))
    .option('--rounds <n>', 'rounds that count', '3')
    .option('--seconds <n>', 'of one measurement', '3')
    .action(main)
    .parseAsync();
}
