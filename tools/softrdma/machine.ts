/** One machine: a User-mode Linux kernel with rxe0 and siw0, as one host process. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, writeFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { dirname, join } from 'node:path';
import type { Duplex } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { collect, type RunCommandOptions, type RunResult } from './collect.ts';
import { SoftRdmaError } from './errors.ts';
import { type Addresses, addressesOf, addressesOf6, guestConfig } from './guest-config.ts';
import { type DeviceName, type LinkFault, linkArguments, linkResult } from './link.ts';
import { allowMappings } from './mappings.ts';
import { memoryDir, parseMemory } from './memory.ts';
import { asset, projectDir } from './paths.ts';
import { GuestProcess } from './process.ts';
import {
  encodeFrame,
  encodeRun,
  type Frame,
  FrameDecoder,
  LineWriter,
  type TerminalSize,
} from './protocol.ts';
import { makeRunDir, removeRunDir } from './run-dir.ts';

/** How much of the kernel's own messages is kept, in characters. */
const LOG_LIMIT = 64 * 1024;
/** A kernel boots in well under a second; one that has not after this many milliseconds never will. */
const BOOT_LIMIT = 60_000;
/** First descriptor of a machine's cables. 3 is the serial line. */
const FIRST_CABLE = 10;

/** What a machine is made of. */
export interface MachineOptions {
  /** Memory, such as `'4G'`. Only what is used takes room. Default 4G. */
  memory?: string | undefined;
  /** Processors, 1 to 8. Default: the host's, at most 2. */
  cpus?: number | undefined;
  /** The command's default working directory; decides what is writable. Default: this process's. */
  cwd?: string | undefined;
  /** More host directories that commands may write to, beside the project's. */
  writable?: readonly string[] | undefined;
}

/** What the maker of machines knows and the user does not say. */
export interface MachineParts {
  kernel: string;
  helper: string;
  /** 1 or 2. */
  number: number;
  hostname: string;
  /** The keeper of the cables between two machines, and how many there are. */
  cables?: { socket: string; count: number } | undefined;
  /** Called once, when the machine is closed for good. */
  released?: () => Promise<void> | undefined;
}

/** How to run a command. */
export interface SpawnOptions {
  /** Environment; default: this process's. The machine's own variables (`NODE_RDMA_SOFT`, ...) are added. */
  env?: Readonly<Record<string, string | undefined>> | undefined;
  /** Working directory; default: the machine's. */
  cwd?: string | undefined;
  /** Give the command a terminal. */
  tty?: TerminalSize | undefined;
}

/** A running (or killed) machine. Made by `machines()`. */
export class Machine implements AsyncDisposable {
  /** The IPv4 addresses of the devices; the same after a restart. */
  readonly addresses: Addresses;
  /** The IPv6 addresses of the devices. */
  readonly addresses6: Addresses;

  readonly #parts: MachineParts;
  readonly #options: MachineOptions;
  readonly #cwd: string;
  readonly #processes = new Map<number, GuestProcess>();
  #runDir: string | undefined;
  #kernel: ChildProcess | undefined;
  #line: Duplex | undefined;
  #writer: LineWriter | undefined;
  #synced: (() => void) | undefined;
  #up = false;
  #closed = false;
  #nextId = 1;
  #log = '';

  constructor(parts: MachineParts, options: MachineOptions = {}) {
    this.#parts = parts;
    this.#options = options;
    this.#cwd = options.cwd ?? process.cwd();
    this.addresses = addressesOf(parts.number);
    this.addresses6 = addressesOf6(parts.number);
  }

  /** Whether commands can be run. */
  get up(): boolean {
    return this.#up;
  }

  /** The kernel's own messages since it was last started: at most the last 64 Ki characters. */
  get log(): string {
    return this.#log;
  }

  /** The host's process id of the machine's supervisor, while the machine runs. */
  get pid(): number | undefined {
    return this.#kernel?.pid;
  }

  /** Boots the machine. Throws `ERR_SOFTRDMA_BOOT` with the kernel's last messages when it does not come up. */
  async start(): Promise<void> {
    if (this.#kernel) return;
    if (this.#closed) throw new SoftRdmaError('ERR_SOFTRDMA_DOWN', 'the machine is closed. Make another.');
    const memory = this.#options.memory ?? '4G';
    const cpus = this.#options.cpus ?? Math.min(2, availableParallelism());
    if (!Number.isInteger(cpus) || cpus < 1 || cpus > 8) {
      throw new SoftRdmaError('ERR_SOFTRDMA_ARGUMENT', `cpus is ${cpus}; give a whole number from 1 to 8`);
    }
    const bytes = parseMemory(memory);
    const tmp = memoryDir(bytes);
    allowMappings(bytes);
    this.#runDir = makeRunDir();
    const config = join(this.#runDir, 'machine.sh');
    const { number, hostname, helper, cables } = this.#parts;
    writeFileSync(
      config,
      guestConfig({ helper, hostname, number, cabled: !!cables, writable: this.#writable() }),
    );
    mkdirSync(join(this.#runDir, 'uml'));
    const args = [
      `mem=${bytes / 2 ** 20}M`,
      `ncpus=${cpus}`,
      'seccomp=on',
      ...'root=/dev/root rootfstype=hostfs rootflags=/ ro'.split(' '),
      // The kernel joins its arguments with spaces and takes them apart again, minding double quotes.
      `init="${asset('guest', 'init.sh')}"`,
      `SOFTRDMA_CONFIG="${config}"`,
      `uml_dir=${join(this.#runDir, 'uml')}`,
      ...'con=null con0=null,fd:1 ssl=null ssl0=fd:3 quiet panic=-1'.split(' '),
      ...Array.from(
        { length: cables?.count ?? 0 },
        (_, i) => `vec${i}:transport=fd,fd=${FIRST_CABLE + i},mtu=9000`,
      ),
    ];
    const side = cables ? ['-k', cables.socket, String(number - 1), String(FIRST_CABLE)] : [];
    this.#log = '';
    this.#boot(
      spawn(helper, ['launch', ...side, this.#parts.kernel, ...args], {
        // Its own process group: a Ctrl-C at the terminal is for the command, which the caller decides about.
        detached: true,
        stdio: ['ignore', 'pipe', 'pipe', 'pipe'],
        env: { TMPDIR: tmp, HOME: this.#runDir, PATH: process.env.PATH },
      }),
    );
    await this.#waitUntilUp();
  }

  /** Starts a command. Throws `ERR_SOFTRDMA_DOWN` when the machine is not up. */
  spawn(command: string, args: readonly string[] = [], options: SpawnOptions = {}): GuestProcess {
    if (!this.#up) throw this.#down(`cannot run ${command}`);
    const id = this.#nextId++;
    const guest = new GuestProcess(id, command, (type, about, payload) => this.#send(type, about, payload));
    this.#processes.set(id, guest);
    const env = { ...(options.env ?? process.env), ...this.#environment() };
    const cwd = options.cwd ?? this.#cwd;
    this.#send('R', id, encodeRun({ argv: [command, ...args], cwd, env, tty: options.tty }));
    return guest;
  }

  /** Runs a command to its end and resolves to what it wrote and how it ended. A failing command is no error. */
  async run(
    command: string,
    args: readonly string[] = [],
    options: RunCommandOptions = {},
  ): Promise<RunResult> {
    return await collect(this.spawn(command, args, options), options);
  }

  /** Makes, or ends, a fault of the cable at this machine. Throws `ERR_SOFTRDMA_ARGUMENT` for what cannot be. */
  async link(device: DeviceName, fault: LinkFault): Promise<void> {
    await linkResult(this.spawn('/usr/local/bin/softrdma-link', linkArguments(device, fault), { cwd: '/' }));
  }

  /** The machine's death: SIGKILL to the kernel, nothing said to anybody. Resolves when it is gone. */
  async kill(): Promise<void> {
    const kernel = this.#kernel;
    if (!kernel) return;
    this.#up = false;
    const gone = once(kernel, 'exit');
    // Its supervisor kills it, and waits until all of it is gone.
    kernel.kill('SIGTERM');
    await gone;
  }

  /** Kills the machine if it is up, and boots it again: empty, with the same addresses. */
  async restart(): Promise<void> {
    await this.kill();
    await this.start();
  }

  /** Ends the machine after what it wrote to the host's files has arrived there. Does nothing the second time. */
  async close(): Promise<void> {
    if (this.#up) {
      const synced = new Promise<void>((resolve) => {
        this.#synced = resolve;
      });
      this.#send('P', 0);
      // One that cannot even sync is killed; there is nothing better to do with it.
      await Promise.race([synced, sleep(5000, undefined, { ref: false })]);
    }
    await this.kill();
    if (this.#closed) return;
    this.#closed = true;
    await this.#parts.released?.();
  }

  /** Same as `close()`. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  #writable(): string[] {
    const dirs = new Set<string>(this.#options.writable ?? []);
    const project = projectDir(this.#cwd);
    if (project) dirs.add(project);
    // The machine has a /tmp of its own; a Node.js that lives in the host's has to be brought along.
    if (process.execPath.startsWith('/tmp/')) dirs.add(dirname(dirname(process.execPath)));
    // Outer directories first, so that none is mounted over.
    return [...dirs].sort((a, b) => a.length - b.length);
  }

  #environment(): Record<string, string> {
    return {
      NODE_RDMA_SOFT: '1',
      RDMA_RXE_ADDR: this.addresses.rxe0,
      RDMA_SIW_ADDR: this.addresses.siw0,
    };
  }

  #send(type: string, id: number, payload?: Buffer): void {
    this.#writer?.send(encodeFrame(type, id, payload));
  }

  #boot(kernel: ChildProcess): void {
    this.#kernel = kernel;
    const keep = (text: Buffer) => {
      this.#log = (this.#log + text.toString()).slice(-LOG_LIMIT);
    };
    kernel.stdout!.on('data', keep);
    kernel.stderr!.on('data', keep);
    const line = kernel.stdio[3] as Duplex;
    this.#line = line;
    this.#writer = new LineWriter(line);
    const decoder = new FrameDecoder((frame) => this.#handle(frame));
    line.on('data', (chunk: Buffer) => decoder.push(chunk));
    // A line that breaks is news of the kernel's death, which 'exit' brings too.
    line.on('error', () => {});
    kernel.on('error', keepError);
    function keepError(error: Error): void {
      keep(Buffer.from(`${error.message}\n`));
      kernel.emit('exit', null, null);
    }
    kernel.on('exit', () => {
      if (this.#kernel === kernel) this.#dead();
    });
  }

  #dead(): void {
    const wasUp = this.#up;
    this.#up = false;
    this.#kernel = undefined;
    this.#line?.destroy();
    this.#line = undefined;
    this.#writer = undefined;
    this.#synced?.();
    if (this.#runDir) removeRunDir(this.#runDir);
    this.#runDir = undefined;
    const error = wasUp
      ? new SoftRdmaError(
          'ERR_SOFTRDMA_DOWN',
          `the machine died. Its last messages:\n${this.#lastMessages()}${this.#panic()}`,
        )
      : this.#down('the command ended with its machine');
    for (const guest of this.#processes.values()) guest.fail(error);
    this.#processes.clear();
  }

  async #waitUntilUp(): Promise<void> {
    const kernel = this.#kernel!;
    const deadline = new AbortController();
    await new Promise<void>((resolve, reject) => {
      const failed = (why: string) =>
        reject(
          new SoftRdmaError(
            'ERR_SOFTRDMA_BOOT',
            `the machine ${why}. Its messages:\n${this.#lastMessages()}`,
          ),
        );
      this.#onUp = resolve;
      kernel.once('exit', () => failed('did not come up'));
      sleep(BOOT_LIMIT, undefined, { signal: deadline.signal }).then(
        () => {
          failed(`was not up after ${BOOT_LIMIT / 1000} s`);
          kernel.kill('SIGTERM');
        },
        () => {},
      );
    }).finally(() => deadline.abort());
  }
  #onUp: (() => void) | undefined;

  #handle(frame: Frame): void {
    if (frame.type === 'U') {
      this.#up = true;
      this.#onUp?.();
    } else if (frame.type === 'L') {
      this.#writer?.taken(frame.payload.readUInt32LE(0));
    } else if (frame.type === 'Z') {
      this.#synced?.();
    } else if (this.#processes.get(frame.id)?.handle(frame)) {
      this.#processes.delete(frame.id);
    }
  }

  #lastMessages(): string {
    // The registers and the call trace of a panic say nothing to whoever wonders why init gave up.
    const [before = ''] = this.#log.split(/^.*Kernel panic/m);
    return before.trimEnd().split('\n').slice(-15).join('\n');
  }

  /** Why the kernel gave up, and where, if it had the time to say so. */
  #panic(): string {
    const [, reason = ''] = this.#log.split(/(?=^.*Kernel panic)/m);
    return reason === '' ? '' : `\n${reason.split('\n').slice(0, 40).join('\n').trimEnd()}`;
  }

  #down(what: string): SoftRdmaError {
    return new SoftRdmaError('ERR_SOFTRDMA_DOWN', `${what}: the machine is down. restart() brings it back.`);
  }
}
