/**
 * A file that appears under its name only when it is complete: written under a temporary name in the same
 * directory and renamed at the end, or removed.
 */
import { createHash, randomBytes } from 'node:crypto';
import { rmSync } from 'node:fs';
import { type FileHandle, open, readdir, rename, rm } from 'node:fs/promises';
import { hostname } from 'node:os';
import { dirname, join } from 'node:path';

const HOST = createHash('sha256').update(hostname()).digest('hex').slice(0, 8);
const PART_NAME = /^\.rdma-part-([0-9a-f]{8})-(\d+)-[0-9a-f]{12}$/;

/** Whether a file name is one of an unfinished file. */
export function isPartName(name: string): boolean {
  return PART_NAME.test(name);
}

/** Unfinished files of this process: removed at exit, however it comes, SIGKILL excepted. */
const unfinished = new Set<string>();
process.on('exit', () => {
  for (const path of unfinished) rmSync(path, { force: true });
});

/** A file being written. Ends with {@link commit} or {@link discard}. */
export class PartFile {
  readonly handle: FileHandle;
  readonly path: string;
  readonly #part: string;

  private constructor(handle: FileHandle, part: string, path: string) {
    this.handle = handle;
    this.#part = part;
    this.path = path;
  }

  /** Starts a file that will be `path`. Also removes what killed processes of this host left in the directory. */
  static async create(path: string): Promise<PartFile> {
    const directory = dirname(path);
    await removeAbandoned(directory);
    const part = join(directory, `.rdma-part-${HOST}-${process.pid}-${randomBytes(6).toString('hex')}`);
    const handle = await open(part, 'wx+', 0o666);
    unfinished.add(part);
    return new PartFile(handle, part, path);
  }

  /** Gives the file its name, replacing one that exists. With `sync` the data are on the disk before. */
  async commit(sync = false): Promise<void> {
    if (sync) await this.handle.sync();
    await this.handle.close();
    await rename(this.#part, this.path);
    unfinished.delete(this.#part);
  }

  /** Removes it. Never rejects: there is nothing more to do about it. */
  async discard(): Promise<void> {
    await this.handle.close().catch(() => {});
    await rm(this.#part, { force: true }).catch(() => {});
    unfinished.delete(this.#part);
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}

/** Removes unfinished files of processes that no longer run. */
export async function removeAbandoned(directory: string): Promise<void> {
  for (const name of await readdir(directory)) {
    const [, host, pid] = PART_NAME.exec(name) ?? [];
    if (host === HOST && !isAlive(Number(pid))) await rm(join(directory, name), { force: true });
  }
}
