/** The Linux kernel's own initiator, by nvme-cli, and the target as a process. */
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { environmentOf } from '../../helpers/foreign.ts';

export const NQN = 'nqn.2026-11.org.node-rdma:target';

/** A host, of which the kernel can be several. */
export interface HostName {
  readonly nqn: string;
  readonly id: string;
}

export function hostName(n: number): HostName {
  const id = `11111111-2222-4333-8444-00000000000${n}`;
  return { nqn: `nqn.2014-08.org.nvmexpress:uuid:${id}`, id };
}

export const HOST = hostName(1);

export interface Ended {
  readonly status: number | null;
  readonly out: string;
}

/** Runs a program to its end, for [ms] at most; a kernel that hangs must not hang the tests. */
export function run(program: string, args: readonly string[], ms = 120_000): Promise<Ended> {
  const env = environmentOf(program);
  const child = spawn(program, args, { env, stdio: ['ignore', 'pipe', 'pipe'] });
  let out = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (data: Buffer) => {
      out += data.toString();
    });
  }
  return new Promise((settle, reject) => {
    const timer = setTimeout(() => {
      child.kill('SIGKILL');
      // One that sleeps in the kernel does not even die.
      settle({ status: null, out: `${out}(killed after ${ms} ms)` });
    }, ms);
    child.on('error', reject);
    child.on('close', (status) => {
      clearTimeout(timer);
      settle({ status, out });
    });
  });
}

/** Runs a program that must succeed; returns what it said. */
export async function must(program: string, args: readonly string[], ms?: number): Promise<string> {
  const { status, out } = await run(program, args, ms);
  if (status !== 0) throw new Error(`${program} ${args.join(' ')}: status ${status}: ${out}`);
  return out;
}

/** Runs lines of shell, the first failure of which ends them. */
export function shell(script: string, ms?: number): Promise<string> {
  return must('sh', ['-ec', script], ms);
}

/** The target, as a process. */
export interface TargetProcess {
  readonly child: ChildProcess;
  output(): string;
  /** SIGINT; resolves with the exit status. */
  stop(): Promise<number | null>;
  /** kill -9. */
  kill(): Promise<void>;
}

/** Starts the target with these options; resolves when it listens. */
export async function startTarget(...args: string[]): Promise<TargetProcess> {
  const cli = resolve('dist/examples/nvme-target/cli.js');
  const child = spawn(process.execPath, [cli, ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (data: Buffer) => {
      output += data.toString();
    });
  }
  const ended = new Promise<number | null>((settle) => child.on('close', settle));
  let over = false;
  void ended.then(() => {
    over = true;
  });
  while (!output.includes('listening')) {
    if (over) throw new Error(`the target has ended: ${output}`);
    await sleep(20);
  }
  const end = (signal: NodeJS.Signals): Promise<number | null> => {
    child.kill(signal);
    return ended;
  };
  return {
    child,
    output: () => output,
    stop: () => end('SIGINT'),
    kill: () => end('SIGKILL').then(() => undefined),
  };
}

function hostArgs({ nqn, id }: HostName): string[] {
  return ['--hostnqn', nqn, '--hostid', id];
}

export function discover(address: string, host = HOST): Promise<string> {
  return must('nvme', [
    'discover',
    '-t',
    'rdma',
    '-a',
    address,
    '-s',
    '4420',
    ...hostArgs(host),
    '-o',
    'json',
  ]);
}

/**
 * What `nvme connect` asks the kernel for; see {@link connected} for one that must succeed. Not by nvme-cli, which takes
 * two hosts for one where they connect to the same address.
 */
export function connect(address: string, host = HOST, ...more: string[]): Promise<Ended> {
  const options = [
    `transport=rdma,traddr=${address},trsvcid=4420,nqn=${NQN},hostnqn=${host.nqn},hostid=${host.id}`,
    // Quick to notice that the target has gone, and to try again.
    'keep_alive_tmo=5,reconnect_delay=1,ctrl_loss_tmo=60',
    ...more,
  ];
  return run('sh', ['-c', `echo '${options.join(',')}' > /dev/nvme-fabrics`], 30_000);
}

/** nvme connect, as users do it. */
export function nvmeConnect(address: string, host = HOST): Promise<string> {
  return must('nvme', ['connect', '-t', 'rdma', '-a', address, '-s', '4420', '-n', NQN, ...hostArgs(host)]);
}

/** What the kernel made of a connection. */
export interface KernelController {
  /** nvme0. */
  readonly name: string;
  /** Waits for a namespace; /dev/nvme0n1. */
  namespace(nsid: number): Promise<string>;
  /** live, connecting, … */
  state(): string;
}

function nameOf(host: HostName): string {
  const root = '/sys/class/nvme';
  const name = readdirSync(root).find((one) => {
    const nqn = readFileSync(`${root}/${one}/subsysnqn`, 'utf8').trim();
    return nqn === NQN && readFileSync(`${root}/${one}/hostnqn`, 'utf8').trim() === host.nqn;
  });
  if (name === undefined) throw new Error(`${host.nqn} has no controller`);
  return name;
}

/** The kernel numbers its block devices in the order in which it happens to find the namespaces. */
function blockDevice(controller: string, nsid: number): string | undefined {
  const root = `/sys/class/nvme/${controller}`;
  const found = readdirSync(root).find(
    (one) => /^nvme\d+n\d+$/.test(one) && readFileSync(`${root}/${one}/nsid`, 'utf8').trim() === String(nsid),
  );
  return found === undefined ? undefined : `/dev/${found}`;
}

/** Connects, and must. */
export async function connected(address: string, host = HOST, ...more: string[]): Promise<KernelController> {
  const { status, out } = await connect(address, host, ...more);
  if (status !== 0) throw new Error(`nvme connect: status ${status}: ${out}${await must('dmesg', [])}`);
  return controllerOf(host);
}

/** The controller of a host that is connected. */
export function controllerOf(host = HOST): KernelController {
  const name = nameOf(host);
  return {
    name,
    namespace: async (nsid) => {
      for (let i = 0; i < 200; i++) {
        const device = blockDevice(name, nsid);
        if (device !== undefined && existsSync(device)) return device;
        await sleep(50);
      }
      throw new Error(`${name} has no namespace ${nsid}`);
    },
    state: () => readFileSync(`/sys/class/nvme/${name}/state`, 'utf8').trim(),
  };
}

export async function disconnectAll(): Promise<void> {
  await must('nvme', ['disconnect-all'], 60_000);
}

/** A hash of all files below [directory], of their names and contents. */
export function hashTree(directory: string): Promise<string> {
  return shell(`cd ${directory} && find . -type f | LC_ALL=C sort | xargs sha256sum | sha256sum`);
}
