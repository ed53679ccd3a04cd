/** Runs the programs of this directory, each in a process of its own: what a test does to a process must not end the tests. */
import { type ChildProcess, spawn } from 'node:child_process';
import { join } from 'node:path';
import { packageRoot } from '../../../tools/softrdma/paths.ts';

/** How a process ended, and what it said. */
export interface Ended {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly out: string;
  readonly err: string;
}

/** A process that has been started. */
export interface Running {
  readonly child: ChildProcess;
  readonly ended: Promise<Ended>;
  /** Resolves to the output once it contains [text]; rejects when the process ends without having said it. */
  said(text: string): Promise<string>;
}

/** A program that hangs is killed after this time, so that the test can say so; tests of programs may take as long. */
export const HANG_MS = 150_000;

/** Starts dist/test/device/lifetime/[program].js with these arguments. */
export function startProgram(
  program: string,
  args: readonly string[],
  nodeFlags: string[] = [],
  limitMs = HANG_MS,
): Running {
  const file = join(packageRoot, 'dist/test/device/lifetime', `${program}.js`);
  const child = spawn(process.execPath, ['--expose-gc', ...nodeFlags, file, ...args], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let out = '';
  let err = '';
  child.stdout.on('data', (data) => {
    out += data;
  });
  child.stderr.on('data', (data) => {
    err += data;
  });
  const timer = setTimeout(() => {
    err += `(killed after ${limitMs} ms)`;
    child.kill('SIGKILL');
  }, limitMs);
  const ended = new Promise<Ended>((resolve) => {
    child.on('close', (code, signal) => {
      clearTimeout(timer);
      resolve({ code, signal, out, err });
    });
  });
  const said = (text: string) =>
    new Promise<string>((resolve, reject) => {
      const look = () => {
        if (out.includes(text)) resolve(out);
      };
      child.stdout.on('data', look);
      ended.then(() => reject(new Error(`the program ended without saying "${text}": ${out}${err}`)));
      look();
    });
  return { child, ended, said };
}

/** Runs dist/test/device/lifetime/[program].js to its end. */
export function runProgram(
  program: string,
  args: readonly string[],
  nodeFlags: string[] = [],
): Promise<Ended> {
  return startProgram(program, args, nodeFlags).ended;
}
