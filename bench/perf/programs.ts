/** Runs our program and its twins in C, a server and a client each, and reads what they say. */
import { spawn } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { bandwidthOutcome, type Cell, latencyOutcome, type Outcome } from './options.ts';

/** A device and the address of its port. */
export interface Target {
  readonly device: string;
  readonly host: string;
}

const nodePerf = fileURLToPath(new URL('node-perf.js', import.meta.url));
const TIMEOUT_MS = 30_000;
/** How long a server may take until it listens. */
const START_MS = 15_000;
const MiB = 1024 * 1024;

interface Running {
  readonly ended: Promise<{ readonly status: number | null; readonly output: string }>;
  /** Resolves with the first line, or with '' at the end. */
  readonly firstLine: Promise<string>;
  kill(): void;
}

function start(command: string, args: readonly string[]): Running {
  const child = spawn(command, args, {
    stdio: ['ignore', 'pipe', 'pipe'],
    timeout: TIMEOUT_MS,
    killSignal: 'SIGKILL',
  });
  let output = '';
  let line: (text: string) => void = () => {};
  const firstLine = new Promise<string>((resolve) => {
    line = resolve;
  });
  const add = (data: Buffer): void => {
    output += data.toString();
    if (output.includes('\n')) line(output.slice(0, output.indexOf('\n')));
  };
  child.stdout.on('data', add);
  child.stderr.on('data', add);
  const ended = new Promise<{ status: number | null; output: string }>((resolve) => {
    child.once('error', (error) => {
      line('');
      resolve({ status: null, output: String(error) });
    });
    child.once('close', (status) => {
      line('');
      resolve({ status, output });
    });
  });
  return { ended, firstLine, kill: () => child.kill('SIGKILL') };
}

function failed(what: string, output: string): Error {
  return new Error(`${what} failed:\n${output.trim()}`);
}

/** Our program. */
export async function runNode({ host }: Target, cell: Cell): Promise<Outcome> {
  const text = JSON.stringify(cell);
  const server = start(process.execPath, [nodePerf, 'server', host, text]);
  try {
    const port = await server.firstLine;
    if (!/^\d+$/.test(port)) throw failed('node-perf server', (await server.ended).output);
    const client = await start(process.execPath, [nodePerf, 'client', host, text, port]).ended;
    if (client.status !== 0) throw failed('node-perf client', client.output);
    const { status, output } = await server.ended;
    if (status !== 0) throw failed('node-perf server', output);
    return JSON.parse(client.output) as Outcome;
  } finally {
    server.kill();
  }
}

/** The twin of [cell] in C: what to run, and how to read it. */
interface Twin {
  readonly program: string;
  readonly args: readonly string[];
  parse(output: string): Outcome | undefined;
}

function bandwidthTwin(target: Target, cell: Cell): Twin {
  const { test, size, iterations, depth, list, moderation } = cell;
  const numbers = ['-s', size, '-n', iterations, '-t', depth, '-Q', moderation].map(String);
  const lists = list > 1 ? ['-l', String(list)] : [];
  return {
    program: `ib_${test}`,
    args: [...deviceArgs(target), '-F', '-N', ...numbers, ...lists],
    parse(output) {
      const line = new RegExp(`^ *${size}\\s+(\\d+)\\s+[\\d.]+\\s+([\\d.]+)\\s+([\\d.]+)`, 'm').exec(output);
      if (line === null) return undefined;
      // Of small messages the rate has more digits, of large ones the bandwidth.
      const rate = size < 4096 ? Number(line[3]) * 1e6 : (Number(line[2]) * MiB) / size;
      return bandwidthOutcome(size, rate, 1);
    },
  };
}

function latencyTwin(target: Target, { test, size, iterations }: Cell): Twin {
  if (test === 'event_lat' && !isIwarp(target)) {
    return {
      program: 'ibv_rc_pingpong',
      args: ['-d', target.device, '-g', '1', '-e', '-s', String(size), '-n', String(iterations)],
      parse(output) {
        const [, time] = /= ([\d.]+) usec\/iter/.exec(output) ?? [];
        return time === undefined ? undefined : latencyOutcome(Number(time) / 2);
      },
    };
  }
  const events = test === 'event_lat' ? ['-e'] : [];
  return {
    program: 'ib_send_lat',
    args: [...deviceArgs(target), '-F', ...events, '-s', String(size), '-n', String(iterations)],
    parse(output) {
      const line = new RegExp(`^ *${size}\\s+\\d+\\s+[\\d.]+\\s+[\\d.]+\\s+([\\d.]+)`, 'm').exec(output);
      return line === null ? undefined : latencyOutcome(Number(line[1]));
    },
  };
}

function isIwarp({ device }: Target): boolean {
  return device.startsWith('siw');
}

function deviceArgs(target: Target): string[] {
  return ['-d', target.device, ...(isIwarp(target) ? ['-R'] : ['-x', '1'])];
}

/** The program that [cell] is compared with. */
export function twinOf(target: Target, cell: Cell): string {
  return (cell.test.endsWith('_lat') ? latencyTwin : bandwidthTwin)(target, cell).program;
}

let nextPort = 21_000;

/** The twin in C. Its client is started again until the server listens. */
export async function runTwin(target: Target, cell: Cell): Promise<Outcome> {
  const twin = (cell.test.endsWith('_lat') ? latencyTwin : bandwidthTwin)(target, cell);
  nextPort += 1;
  const args = [...twin.args, '-p', String(nextPort)];
  const server = start(twin.program, args);
  try {
    let output = '';
    for (const since = Date.now(); Date.now() - since < START_MS; ) {
      await sleep(200);
      output = (await start(twin.program, [...args, target.host]).ended).output;
      const outcome = twin.parse(output);
      if (outcome !== undefined) return outcome;
      if (!/couldn't connect|rdma_connect failed/i.test(output)) break;
    }
    server.kill();
    throw failed(twin.program, `${output.trim()}\nserver: ${(await server.ended).output}`);
  } finally {
    server.kill();
    await server.ended;
  }
}
