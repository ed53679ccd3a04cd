/** Machines by the number, with cables between them. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { SoftRdmaError } from './errors.ts';
import { ensureHelper } from './helper.ts';
import { ensureKernel } from './kernel/locate.ts';
import { Machine, type MachineOptions } from './machine.ts';
import { makeRunDir, removeRunDir } from './run-dir.ts';

/** One cable for rxe0, one for siw0: two RDMA devices may not share a netdev. */
const CABLES = 2;

/** Owns the cables between two machines, so that they outlive either machine. */
class Keeper {
  readonly socket: string;
  readonly #dir: string;
  readonly #process: ChildProcess;
  #users: number;

  private constructor(helper: string, users: number) {
    this.#dir = makeRunDir();
    this.socket = join(this.#dir, 'cables');
    this.#users = users;
    this.#process = spawn(helper, ['keeper', this.socket, String(CABLES)], {
      detached: true,
      stdio: ['pipe', 'pipe', 'inherit'],
    });
  }

  static async start(helper: string, users: number): Promise<Keeper> {
    const keeper = new Keeper(helper, users);
    await Promise.race([
      once(keeper.#process.stdout!, 'data'),
      once(keeper.#process, 'exit').then(([code]) => {
        throw new SoftRdmaError(
          'ERR_SOFTRDMA_BOOT',
          `the cables between the machines: helper ended with ${code}`,
        );
      }),
    ]);
    return keeper;
  }

  /** The last machine to let go ends the keeper. */
  async release(): Promise<void> {
    if (--this.#users > 0) return;
    const gone = once(this.#process, 'exit');
    this.#process.stdin!.end();
    await gone;
    removeRunDir(this.#dir);
  }
}

/**
 * Boots `count` machines (1 or 2), each with rxe0 and siw0; two are joined by a cable per device. The kernel is
 * built first if there is none yet, which takes minutes. Close them, or `await using` them.
 *
 * @throws SoftRdmaError `ERR_SOFTRDMA_ARGUMENT` for another count, `ERR_SOFTRDMA_BOOT` and what the kernel's build
 * may raise.
 */
export async function machines(count: number, options: MachineOptions = {}): Promise<Machine[]> {
  if (count !== 1 && count !== 2) {
    throw new SoftRdmaError(
      'ERR_SOFTRDMA_ARGUMENT',
      `machines(${count}): there can be 1 or 2. Their cable has two ends, and there is no switch.`,
    );
  }
  const kernel = await ensureKernel();
  const helper = await ensureHelper();
  const keeper = count === 2 ? await Keeper.start(helper, count) : undefined;
  const made = Array.from({ length: count }, (_, i) => {
    const cables = keeper && { socket: keeper.socket, count: CABLES };
    const parts = {
      kernel,
      helper,
      number: i + 1,
      hostname: count === 1 ? 'soft' : `soft-${'ab'[i]}`,
      cables,
    };
    return new Machine({ ...parts, released: () => keeper?.release() }, options);
  });
  const booted = await Promise.allSettled(made.map((machine) => machine.start()));
  const failed = booted.find((result) => result.status === 'rejected');
  if (failed) {
    await Promise.allSettled(made.map((machine) => machine.close()));
    throw failed.reason;
  }
  return made;
}
