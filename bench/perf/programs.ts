/** Runs our program and its twins in C, a server and a client each, and reads what they say. */
import { spawn } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import {
  bandwidthOutcome,
  type Cell,
  isLatency,
  latencyOutcome,
  type Mode,
  type Outcome,
} from './options.ts';
import { steadyClockEnv } from './steady-clock.ts';

/** A device and the address of its port. */
export interface Target {
  readonly device: string;
  readonly host: string;
}

const nodePerf = fileURLToPath(new URL('node-perf.js', import.meta.url));
const TIMEOUT_MS = 60_000;
/** How long a server may take until it listens. */
const START_MS = 15_000;
const MiB = 1024 * 1024;
/** Bytes from which a stream can be compared with messages. */
const STREAM_FROM = 64 * 1024;
const STREAM_ITERATIONS = 200;

export interface Running {
  readonly ended: Promise<{ readonly status: number | null; readonly output: string }>;
  /** Resolves with the first line, or with '' at the end. */
  readonly firstLine: Promise<string>;
  kill(): void;
}

export function start(command: string, args: readonly string[], env: Record<string, string> = {}): Running {
  const child = spawn(command, args, {
    env: { ...process.env, ...env },
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
export async function runNode({ host }: Target, cell: Cell, mode: Mode): Promise<Outcome> {
  const args = (role: string): string[] => [nodePerf, role, host, JSON.stringify(cell), mode];
  // A sanitizer's runtime must come first.
  const env = steadyClockEnv(process.env.LD_PRELOAD);
  const server = start(process.execPath, args('server'), env);
  try {
    const port = await server.firstLine;
    if (!/^\d+$/.test(port)) throw failed('node-perf server', (await server.ended).output);
    const client = await start(process.execPath, [...args('client'), port], env).ended;
    if (client.status !== 0) throw failed('node-perf client', client.output);
    const { status, output } = await server.ended;
    if (status !== 0) throw failed('node-perf server', output);
    return JSON.parse(client.output) as Outcome;
  } finally {
    server.kill();
  }
}

/** One way in which C does what a cell says. */
export interface Twin {
  /** What people call it: the program and its mode. */
  readonly name: string;
  readonly program: string;
  readonly args: readonly string[];
  /** Extra arguments of the client, which gets the server's address as well. */
  client(host: string): readonly string[];
  parse(output: string): Outcome | undefined;
}

const atEnd = (host: string): readonly string[] => [host];

function bandwidthTwins(target: Target, cell: Cell): Twin[] {
  const { test, size, iterations, depth, list, moderation } = cell;
  const numbers = ['-s', size, '-n', iterations, '-t', depth, '-Q', moderation].map(String);
  const lists = list > 1 ? ['-l', String(list)] : [];
  const program = `ib_${test}`;
  const polling: Twin = {
    name: program,
    program,
    args: [...deviceArgs(target), '-F', '-N', ...numbers, ...lists],
    client: atEnd,
    parse(output) {
      const line = new RegExp(`^ *${size}\\s+(\\d+)\\s+[\\d.]+\\s+([\\d.]+)\\s+([\\d.]+)`, 'm').exec(output);
      if (line === null) return undefined;
      // Of small messages the rate has more digits, of large ones the bandwidth.
      const rate = size < 4096 ? Number(line[3]) * 1e6 : (Number(line[2]) * MiB) / size;
      return bandwidthOutcome(size, rate, 1);
    },
  };
  // perftest has no events for WRITE, which nobody is told of.
  const events = { ...polling, name: `${program} -e`, args: [...polling.args, '-e'] };
  return [polling, ...(test === 'write_bw' ? [] : [events]), ...(size >= STREAM_FROM ? [stream(cell)] : [])];
}

/** riostream: C over rsockets, which sleeps when there is nothing to do. */
function stream({ size, iterations }: Cell): Twin {
  return {
    name: 'riostream',
    program: 'riostream',
    args: ['-S', String(size), '-C', String(Math.min(iterations, STREAM_ITERATIONS)), '-I', '1'],
    client: (host) => ['-s', host],
    parse(output) {
      // The last column is microseconds for one transfer: the most exact.
      const line = /([\d.]+)\s*$/.exec(output.trim());
      return line === null || !output.includes('usec')
        ? undefined
        : bandwidthOutcome(size, 1e6 / Number(line[1]), 1);
    },
  };
}

function perftestLatency(target: Target, { test, size, iterations }: Cell, events: boolean): Twin {
  const program = test === 'write_lat' ? 'ib_write_lat' : 'ib_send_lat';
  return {
    name: events ? `${program} -e` : program,
    program,
    args: [
      ...deviceArgs(target),
      '-F',
      ...(events ? ['-e'] : []),
      '-s',
      String(size),
      '-n',
      String(iterations),
    ],
    client: atEnd,
    parse(output) {
      const line = new RegExp(`^ *${size}\\s+\\d+\\s+[\\d.]+\\s+[\\d.]+\\s+([\\d.]+)`, 'm').exec(output);
      return line === null ? undefined : latencyOutcome(Number(line[1]));
    },
  };
}

/** Its connections are made by hand, which iWARP does not have. */
function pingPong({ device }: Target, { size, iterations }: Cell, events: boolean): Twin {
  return {
    name: events ? 'ibv_rc_pingpong -e' : 'ibv_rc_pingpong',
    program: 'ibv_rc_pingpong',
    args: ['-d', device, '-g', '1', ...(events ? ['-e'] : []), '-s', String(size), '-n', String(iterations)],
    client: atEnd,
    parse(output) {
      const [, time] = /= ([\d.]+) usec\/iter/.exec(output) ?? [];
      return time === undefined ? undefined : latencyOutcome(Number(time) / 2);
    },
  };
}

function isIwarp({ device }: Target): boolean {
  return device.startsWith('siw');
}

function deviceArgs(target: Target): string[] {
  return ['-d', target.device, ...(isIwarp(target) ? ['-R'] : ['-x', '1'])];
}

/**
 * The ways in which C does what [cell] says. Which is the fastest depends on the device: on a soft one two programs that
 * poll keep the processors from the threads that do the device's work.
 */
export function twinsOf(target: Target, cell: Cell): Twin[] {
  if (!isLatency(cell.test)) return bandwidthTwins(target, cell);
  // ib_send_lat -e overruns its completion queue on rxe.
  const sleeping = isIwarp(target) ? perftestLatency(target, cell, true) : pingPong(target, cell, true);
  if (cell.test === 'event_lat') return [sleeping];
  const polling = perftestLatency(target, cell, false);
  if (cell.test === 'write_lat') return [polling];
  return [polling, ...(isIwarp(target) ? [] : [pingPong(target, cell, false)]), sleeping];
}

let nextPort = 21_000;

/** The twin in C. Its client is started again until the server listens. */
export async function runTwin(target: Target, twin: Twin): Promise<Outcome> {
  nextPort += 1;
  const args = [...twin.args, '-p', String(nextPort)];
  const env = twin.program.startsWith('ib_') ? steadyClockEnv() : {};
  const server = start(twin.program, args, env);
  try {
    let output = '';
    for (const since = Date.now(); Date.now() - since < START_MS; ) {
      await sleep(200);
      output = (await start(twin.program, [...args, ...twin.client(target.host)], env).ended).output;
      const outcome = twin.parse(output);
      if (outcome !== undefined) return outcome;
      if (!/couldn't connect|rdma_connect failed|rconnect|failed to connect/i.test(output)) break;
    }
    server.kill();
    throw failed(twin.program, `${output.trim()}\nserver: ${(await server.ended).output}`);
  } finally {
    server.kill();
    await server.ended;
  }
}
