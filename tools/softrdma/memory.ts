/** Where a machine's memory goes: a sparse file that the kernel makes, maps executable and unlinks. */
import { readFileSync, statfsSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { SoftRdmaError } from './errors.ts';

/** A size in bytes as people write it: `4G`, `512M`, `2048m`. Throws `ERR_SOFTRDMA_ARGUMENT`. */
export function parseMemory(text: string): number {
  const match = /^(\d+)([MG])$/i.exec(text);
  const bytes = match ? Number(match[1]) * (match[2]!.toUpperCase() === 'G' ? 2 ** 30 : 2 ** 20) : 0;
  if (bytes < 256 * 2 ** 20 || bytes > 64 * 2 ** 30) {
    throw new SoftRdmaError(
      'ERR_SOFTRDMA_ARGUMENT',
      `memory is ${text}; give 256M to 64G, as in --memory 2G`,
    );
  }
  return bytes;
}

/** Whether the file system that holds `dir` forbids execution, which the kernel needs of its memory file. */
export function isNoExec(dir: string, mounts: string): boolean {
  let best = '';
  let options = '';
  for (const line of mounts.split('\n')) {
    const [, point = '', , flags = ''] = line.split(' ');
    const holds = dir === point || point === '/' || dir.startsWith(`${point}/`);
    if (point && holds && point.length >= best.length) [best, options] = [point, flags];
  }
  return options.split(',').includes('noexec');
}

/**
 * The directory for a memory file of `bytes`: the first of /dev/shm (memory, not disk) and the temporary directory
 * that has that much room and permits execution. Throws `ERR_SOFTRDMA_BOOT` when neither does: a kernel whose file
 * runs out of room dies of SIGBUS, which explains nothing.
 */
export function memoryDir(bytes: number): string {
  const mounts = readFileSync('/proc/mounts', 'utf8');
  const tried: string[] = [];
  for (const dir of new Set(['/dev/shm', tmpdir()])) {
    try {
      const { bavail, bsize } = statfsSync(dir);
      if (isNoExec(dir, mounts)) tried.push(`${dir} is mounted noexec`);
      else if (bavail * bsize < bytes)
        tried.push(`${dir} has ${Math.floor((bavail * bsize) / 2 ** 20)} MiB free`);
      else return dir;
    } catch (error) {
      tried.push(`${dir}: ${(error as Error).message}`);
    }
  }
  throw new SoftRdmaError(
    'ERR_SOFTRDMA_BOOT',
    `no room for ${bytes / 2 ** 20} MiB of machine memory (${tried.join('; ')}). ` +
      'Ask for less (--memory 1G), or set TMPDIR to a directory with room on a file system not mounted noexec.',
  );
}
