import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import type { RdmaMapping } from '../../../lib/net/index.ts';
import { resources } from '../helpers/cm.ts';
import { devices } from '../helpers/devices.ts';
import { pattern, socketPair } from './helpers.ts';

const collectGarbage = (globalThis as { gc?: () => void }).gc!;

describe.each(devices)('direct writes on $name', ({ name, host }) => {
  /** A connection whose client may write to [target], which it calls [offset]. */
  async function mappedPair(
    target: Buffer,
    offset = 0,
  ): Promise<Awaited<ReturnType<typeof socketPair>> & { readonly mapping: WeakRef<RdmaMapping> }> {
    const pair = await socketPair(host, { iomapSize: 1 }, { iomapSize: 1 });
    const mapped = once(pair.client.direct, 'mapped');
    const mapping = new WeakRef(await pair.accepted.direct.map(target, offset));
    // On iWARP the side that accepted sends when it has heard from the other.
    pair.client.write('go');
    await once(pair.accepted, 'data');
    expect(await mapped).toEqual([{ offset, length: target.length }]);
    return { ...pair, mapping };
  }

  it('go into mapped memory, and nowhere else', async () => {
    const target = Buffer.alloc(100_000);
    const { client, accepted, mapping, close } = await mappedPair(target, 5000);
    expect(() => client.direct.write(Buffer.alloc(10), 104_995)).toThrow(/offset 104995/);
    await client.direct.write(pattern(80_000), 6000);
    client.write('done');
    await once(accepted, 'data');
    expect(target.subarray(1000, 81_000).equals(pattern(80_000))).toBe(true);
    expect(target.subarray(0, 1000).equals(Buffer.alloc(1000))).toBe(true);
    await mapping.deref()!.close();
    await close();
  });

  it('each is done when it has been sent, not when all have', async () => {
    const { client, close } = await mappedPair(Buffer.alloc(100_000));
    const order: number[] = [];
    const bytes = pattern(100_000);
    const writes = Array.from({ length: 50 }, async (_, i) => {
      await client.direct.write(bytes, 0);
      order.push(i);
    });
    await writes[0];
    expect(order.length).toBeLessThan(writes.length);
    await Promise.all(writes);
    expect(order).toEqual([...writes.keys()]);
    await close();
  });

  it('what is mapped stays so until the socket is closed, though nobody keeps the mapping', async () => {
    const target = Buffer.alloc(100);
    const { client, accepted, close } = await mappedPair(target);
    await expect(accepted.direct.map(target)).rejects.toMatchObject({ code: 'ENOSPC' });
    await sleep(10);
    collectGarbage();
    await client.direct.write(pattern(100), 0);
    client.write('done');
    await once(accepted, 'data');
    expect(target.equals(pattern(100))).toBe(true);
    await close();
    await expect(accepted.direct.map(target)).rejects.toMatchObject({ code: 'ENOTCONN' });
    await expect.poll(() => resources(name).mr, { timeout: 5000 }).toBe(0);
  });

  it('a mapping that is closed makes room for another, once', async () => {
    const { client, accepted, mapping, close } = await mappedPair(Buffer.alloc(100));
    const first = mapping.deref()!;
    await first.close();
    const mapped = once(client.direct, 'mapped');
    await accepted.direct.map(Buffer.alloc(200), 7);
    expect(await mapped).toEqual([{ offset: 7, length: 200 }]);
    await first.close();
    await expect(accepted.direct.map(Buffer.alloc(10))).rejects.toMatchObject({ code: 'ENOSPC' });
    await close();
  });
});
