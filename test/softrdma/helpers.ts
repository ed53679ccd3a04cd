/** Running the softrdma command, and looking for what it may have left behind. */
import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, realpathSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { packageRoot } from '../../tools/softrdma/paths.ts';

/** The command, as `npm run softrdma` runs it. */
export const cli = join(packageRoot, 'dist/tools/softrdma/cli.js');

export interface Outcome {
  status: number | null;
  signal: NodeJS.Signals | null;
  stdout: Buffer;
  stderr: string;
}

export interface Running {
  child: ChildProcessWithoutNullStreams;
  outcome: Promise<Outcome>;
  /** Resolves once standard output contains `text`. */
  saw(text: string): Promise<void>;
}

export interface StartOptions {
  cwd?: string;
  env?: NodeJS.ProcessEnv;
  input?: string | Buffer;
  script?: string;
}

/** Starts softrdma with these arguments. */
export function start(args: readonly string[], options: StartOptions = {}): Running {
  const child = spawn(process.execPath, [options.script ?? cli, ...args], {
    cwd: options.cwd ?? packageRoot,
    env: options.env ?? process.env,
  });
  const chunks: Buffer[] = [];
  let stderr = '';
  child.stdout.on('data', (chunk: Buffer) => chunks.push(chunk));
  child.stderr.on('data', (chunk: Buffer) => {
    stderr += chunk.toString();
  });
  child.stdin.on('error', () => {});
  child.stdin.end(options.input ?? '');
  const outcome = new Promise<Outcome>((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (status, signal) => resolve({ status, signal, stdout: Buffer.concat(chunks), stderr }));
  });
  const saw = (text: string) =>
    new Promise<void>((resolve, reject) => {
      const look = () => {
        if (Buffer.concat(chunks).includes(text)) resolve();
      };
      child.stdout.on('data', look);
      outcome.then(() => reject(new Error(`it ended without saying ${text}: ${stderr}`)), reject);
      look();
    });
  return { child, outcome, saw };
}

/** Runs softrdma to its end. */
export function run(args: readonly string[], options: StartOptions = {}): Promise<Outcome> {
  return start(args, options).outcome;
}

/** Makes a temporary directory that `using` removes. */
export function temporary(): { path: string; [Symbol.dispose](): void } {
  const path = realpathSync(mkdtempSync(join(tmpdir(), 'softrdma-test-')));
  return { path, [Symbol.dispose]: () => rmSync(path, { recursive: true, force: true }) };
}

/** Waits, for at most so many milliseconds, until `condition` holds; returns whether it did. */
export async function eventually(
  condition: () => boolean | Promise<boolean>,
  limit = 5000,
): Promise<boolean> {
  for (const end = Date.now() + limit; Date.now() < end; ) {
    if (await condition()) return true;
    await new Promise((done) => setTimeout(done, 20));
  }
  return await condition();
}

function processes(): { pid: number; parent: number; session: number; cmdline: string }[] {
  return readdirSync('/proc').flatMap((name) => {
    if (!/^\d+$/.test(name)) return [];
    try {
      const stat = readFileSync(`/proc/${name}/stat`, 'utf8');
      const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
      if (fields[0] === 'Z') return [];
      const cmdline = readFileSync(`/proc/${name}/cmdline`, 'utf8').replaceAll('\0', ' ');
      return [{ pid: Number(name), parent: Number(fields[1]), session: Number(fields[3]), cmdline }];
    } catch {
      return []; // It has just ended.
    }
  });
}

/** The session of the kernel whose arguments mention `text`: the kernel is its leader, its processes are in it. */
export function kernelSession(text: string): number | undefined {
  return processes().find(({ cmdline }) => cmdline.includes(text) && cmdline.includes('rootfstype=hostfs'))
    ?.session;
}

/** How many processes are in a session. */
export function sessionSize(session: number): number {
  return processes().filter((one) => one.session === session).length;
}

/** The CPUs of the host that each program of a machine may run on, as in proc_pid_status(5). */
export function hostCpus(machine: number): string[] {
  const all = processes();
  // The machine's process starts the kernel, whose children are the programs.
  const kernel = all.find(({ parent }) => parent === machine);
  return all
    .filter(({ parent }) => parent === kernel?.pid)
    .flatMap(({ pid }) => {
      try {
        return /^Cpus_allowed_list:\t(.*)$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))![1]!;
      } catch {
        return []; // It has just ended.
      }
    });
}
