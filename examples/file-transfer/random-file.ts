/** A file to send. */
import { randomFillSync } from 'node:crypto';
import { open } from 'node:fs/promises';

const STEP = 1024 * 1024;

/** Writes `bytes` random bytes to the file `path`. */
export async function makeRandomFile(path: string, bytes: number): Promise<void> {
  const handle = await open(path, 'w');
  try {
    const block = Buffer.alloc(Math.min(STEP, bytes));
    for (let done = 0; done < bytes; done += block.length) {
      randomFillSync(block);
      await handle.write(block, 0, Math.min(block.length, bytes - done));
    }
  } finally {
    await handle.close();
  }
}
