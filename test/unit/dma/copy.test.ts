import { setImmediate as turn } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { describe, expect, it } from 'vitest';
import { addon } from '../../../lib/addon.ts';
import { CHUNK_BYTES, copyOf } from '../../../lib/dma/copy.ts';

setFlagsFromString('--expose-gc');
const collect = runInNewContext('gc') as () => void;

/** Chunks that one pool has at most (native/core/chunk_pool.h). */
const MOST = 1024;

/** Takes all chunks that there are, numbers them, and returns views of them. */
function takeAll(): Uint32Array[] {
  const taken: Uint32Array[] = [];
  for (let chunk = addon.takeChunk(); chunk !== undefined; chunk = addon.takeChunk()) {
    taken.push(new Uint32Array(chunk).fill(taken.length));
  }
  return taken;
}

/** Collects garbage until [done], for a while. */
async function collectUntil(done: () => boolean): Promise<void> {
  for (let i = 0; i < 50 && !done(); i += 1) {
    collect();
    await turn();
  }
}

describe('copies of what has come', () => {
  it.each([0, 1, 100, 32767, 32768, 65535, 65536, 65537, 1_000_000])('of %i bytes', (length) => {
    const bytes = Uint8Array.from({ length }, (_, i) => i * 7);
    const copy = copyOf(bytes);
    expect(copy.equals(bytes)).toBe(true);
    bytes.fill(0xff);
    expect(copy.indexOf(0xff)).toBe(length > 73 ? 73 : -1);
    expect(copy.buffer.byteLength === CHUNK_BYTES).toBe(length >= 32768 && length <= 65536);
  });

  it('are each in memory of their own while anything refers to it, and then it is used again', async () => {
    let chunks = takeAll();
    expect(chunks.length).toBeGreaterThan(MOST - 20);
    expect(chunks.every((words, i) => words.every((word) => word === i))).toBe(true);
    // Without a chunk there is still memory.
    expect(copyOf(new Uint8Array(CHUNK_BYTES).fill(5)).every((byte) => byte === 5)).toBe(true);

    const kept = chunks[3]!.subarray(100, 101);
    chunks = [];
    await collectUntil(() => {
      chunks.push(...takeAll());
      return chunks.length >= MOST - 20;
    });
    expect(chunks.length).toBeGreaterThan(MOST - 20);
    expect(chunks.length).toBeLessThan(MOST);
    for (const words of chunks) words.fill(0xffff_ffff);
    expect([...kept]).toEqual([3]);
  });
});
