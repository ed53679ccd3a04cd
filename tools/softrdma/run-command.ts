/** One command on one machine, in place of this process: its streams, signals, terminal and exit status. */
import { constants } from 'node:os';
import { resolve } from 'node:path';
import type { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { runOnHost } from './host-devices.ts';
import type { Machine } from './machine.ts';
import { machines } from './machines.ts';
import type { ExitResult, GuestProcess } from './process.ts';
import type { TerminalSize } from './protocol.ts';

/** The options of the `softrdma` command. */
export interface RunOptions {
  device: 'soft' | 'host';
  /** Seconds. */
  timeout?: number;
  memory?: string;
  cpus?: number;
  writable?: string[];
  verbose?: boolean;
}

/** How long a command that was asked to end may take, in milliseconds, before its machine is killed. */
const GRACE = 5000;
/** The exit status of a command that ran out of time, as timeout(1) has it. */
const TIMED_OUT = 124;

/** The exit status that a shell would report. */
export function exitStatus(result: ExitResult): number {
  return result.status ?? 128 + constants.signals[result.signal!];
}

function terminalSize(): TerminalSize {
  return { columns: process.stdout.columns ?? 80, rows: process.stdout.rows ?? 24 };
}

/** The caller's environment, with what a program cannot see through a pipe: that there is a terminal at the end. */
function environment(tty: boolean): NodeJS.ProcessEnv {
  if (tty || !process.stdout.isTTY) return process.env;
  return { FORCE_COLOR: '1', COLUMNS: String(terminalSize().columns), ...process.env };
}

/** Runs `command` as `options` say and resolves to the exit status. */
export async function runInMachine(command: readonly string[], options: RunOptions): Promise<number> {
  if (options.device === 'host') return runOnHost(command, options.timeout);
  const machine = await start(options);
  try {
    return await attach(machine, command, options);
  } finally {
    await machine.close();
    if (options.verbose) process.stderr.write(machine.log);
  }
}

async function start(options: RunOptions): Promise<Machine> {
  // There is no command yet to pass a signal to. Leaving by exit() tidies up, and the kernel dies with its parent;
  // not at once, because a build that is under way has a handler of its own.
  const leave = (signal: NodeJS.Signals) => setImmediate(() => process.exit(128 + constants.signals[signal]));
  process.on('SIGINT', leave).on('SIGTERM', leave).on('SIGHUP', leave);
  try {
    const [machine] = await machines(1, {
      memory: options.memory,
      cpus: options.cpus,
      writable: options.writable?.map((dir) => resolve(dir)),
    });
    return machine!;
  } finally {
    process.off('SIGINT', leave).off('SIGTERM', leave).off('SIGHUP', leave);
  }
}

async function attach(machine: Machine, command: readonly string[], options: RunOptions): Promise<number> {
  const tty = !!(process.stdin.isTTY && process.stdout.isTTY && process.stderr.isTTY);
  const [file, ...args] = command as [string, ...string[]];
  const guest = machine.spawn(file, args, { env: environment(tty), tty: tty ? terminalSize() : undefined });
  let timedOut = false;
  const ending = new Ending(guest, machine);
  const timer = options.timeout
    ? setTimeout(() => {
        timedOut = true;
        ending.ask('SIGTERM');
      }, options.timeout * 1000)
    : undefined;
  const onSignal = (signal: NodeJS.Signals) => ending.ask(signal);
  const onResize = () => guest.resize(terminalSize());
  process.on('SIGINT', onSignal).on('SIGTERM', onSignal).on('SIGHUP', onSignal).on('SIGWINCH', onResize);
  // A reader that has gone away, as in `softrdma yes | head`, ends the command as it would without us.
  for (const out of [process.stdout, process.stderr]) out.on('error', () => guest.kill('SIGPIPE'));
  if (tty) process.stdin.setRawMode(true);
  process.stdin.pipe(guest.stdin);
  const outputs = Promise.allSettled([
    pipeline(guest.stdout, process.stdout, { end: false }),
    pipeline(guest.stderr, process.stderr, { end: false }),
  ]);
  try {
    const result = await guest.exited;
    // Something that the command left behind may hold the streams open; what came before the exit is here.
    await Promise.race([outputs, drained(guest)]);
    return timedOut ? TIMED_OUT : exitStatus(result);
  } catch (error) {
    if (timedOut) return TIMED_OUT;
    if (ending.signal) return 128 + constants.signals[ending.signal];
    throw error;
  } finally {
    clearTimeout(timer);
    ending.stop();
    if (tty) process.stdin.setRawMode(false);
    process.stdin.unpipe();
    process.stdin.destroy();
    process
      .off('SIGINT', onSignal)
      .off('SIGTERM', onSignal)
      .off('SIGHUP', onSignal)
      .off('SIGWINCH', onResize);
    await flushed(process.stdout);
    await flushed(process.stderr);
  }
}

/** Resolves once everything that was in the streams has been read, or nobody will read it. */
async function drained(guest: GuestProcess): Promise<void> {
  const held = (stream: Readable) => !stream.destroyed && stream.readableLength > 0;
  while (held(guest.stdout) || held(guest.stderr)) {
    await new Promise((done) => setTimeout(done, 5));
  }
}

/** Resolves once what was written to `stream` has left this process, or cannot. */
async function flushed(stream: NodeJS.WriteStream): Promise<void> {
  if (stream.destroyed || stream.errored || stream.writableLength === 0) return;
  await new Promise<void>((done) => stream.write('', () => done()));
}

/** Asking a command to end: kindly, and when it does not, or is asked again, by killing its machine. */
class Ending {
  readonly #guest: GuestProcess;
  readonly #machine: Machine;
  #timer: NodeJS.Timeout | undefined;
  /** The signal that was sent first. */
  signal: NodeJS.Signals | undefined;

  constructor(guest: GuestProcess, machine: Machine) {
    this.#guest = guest;
    this.#machine = machine;
  }

  ask(signal: NodeJS.Signals): void {
    if (this.signal) {
      void this.#machine.kill();
      return;
    }
    this.signal = signal;
    this.#guest.kill(signal);
    this.#timer = setTimeout(() => void this.#machine.kill(), GRACE);
  }

  stop(): void {
    clearTimeout(this.#timer);
  }
}
