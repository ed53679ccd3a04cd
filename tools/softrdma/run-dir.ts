/** The small temporary directory of one machine (or of a pair), and the sweeping of those whose owner was killed. */
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const PREFIX = 'node-rdma-soft-';

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}

const mine = new Set<string>();
let watching = false;

/** Removes a directory made by `makeRunDir()`. */
export function removeRunDir(dir: string): void {
  mine.delete(dir);
  rmSync(dir, { recursive: true, force: true });
}

/** Makes a directory named after this process. Nobody else may read it: it holds the machine's sockets. */
export function makeRunDir(): string {
  for (const name of readdirSync(tmpdir())) {
    const owner = new RegExp(`^${PREFIX}(\\d+)-`).exec(name)?.[1];
    if (owner === undefined || isAlive(Number(owner))) continue;
    try {
      rmSync(join(tmpdir(), name), { recursive: true, force: true });
    } catch {
      // Another user's: theirs to remove.
    }
  }
  const dir = mkdtempSync(join(tmpdir(), `${PREFIX}${process.pid}-`));
  mine.add(dir);
  if (!watching) {
    watching = true;
    // A process that ends without closing its machines; they die with it by themselves.
    process.on('exit', () => {
      for (const one of mine) removeRunDir(one);
    });
  }
  return dir;
}
