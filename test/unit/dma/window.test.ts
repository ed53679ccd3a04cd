// Windows of addresses at their limits: on fake devices, and with another kernel's vm.max_map_count.

import { readFileSync } from 'node:fs';
import { beforeEach, describe, expect, it, vi } from 'vitest';
import type { ArenaBuffer } from '../../../lib/dma/arena.ts';
import { DmaBatch } from '../../../lib/dma/batch.ts';
import { SgeBuilder } from '../../../lib/dma/sge-builder.ts';
import { RdmaError, WcStatus } from '../../../lib/errors.ts';
import { Access } from '../../../lib/verbs/constants.ts';
import { FakePd } from './fake-memory.ts';
import { FakeQp } from './fake-qp.ts';

vi.mock('node:fs', async (original) => {
  const fs = await original<typeof import('node:fs')>();
  return { ...fs, readFileSync: vi.fn(fs.readFileSync) };
});

const PAGE = 4096;
const MAX_MAP_COUNT = '/proc/sys/vm/max_map_count';

/** Lets the kernel allow [count] mappings; undefined: it does not say. */
function allowMappings(count: number | undefined): void {
  vi.mocked(readFileSync).mockImplementation(((path: string) => {
    if (path !== MAX_MAP_COUNT || count === undefined) throw new Error(`fake: no ${path}`);
    return `${count}\n`;
  }) as typeof readFileSync);
}

async function setUp(features: { onDemandPaging?: boolean } = {}) {
  const pd = new FakePd('mlx5', 'ib', features);
  const builder = new SgeBuilder(new FakeQp(pd, pd, { maxSendSge: 1 }), { bounceMax: 0 });
  const all = await Promise.all(Array.from({ length: 8 }, () => builder.arena.alloc(PAGE)));
  const pages = all.filter((_, i) => i % 2 === 0);
  return { pd, builder, pages };
}

const map = (builder: SgeBuilder, pages: readonly ArenaBuffer[]) =>
  builder.map('send', pages.slice(0, 2), { force: 'linear' });

beforeEach(() => allowMappings(65_530));

describe('mappings', () => {
  it('are no more than half of what a process may have, and come back', async () => {
    allowMappings(8);
    const { builder, pages } = await setUp();
    const first = await map(builder, pages);
    const second = await map(builder, pages);
    expect(builder.windows!.stats.links).toBe(4);
    await expect(map(builder, pages)).rejects.toMatchObject({ code: 'ENOMEM', errno: -12, fragment: 0 });
    await expect(map(builder, pages)).rejects.toThrow(
      /linear transfer of 2 pieces would make 6 mappings, more than 4; raise vm.max_map_count/,
    );
    expect(builder.windows!.stats.links).toBe(4);
    first.retire(WcStatus.SUCCESS);
    await builder.idle();
    (await map(builder, pages)).retire(WcStatus.SUCCESS);
    second.retire(WcStatus.SUCCESS);
    await builder.idle();
    expect(builder.windows!.stats.links).toBe(0);
  });

  it('are copied instead where nothing is forced', async () => {
    allowMappings(2);
    const { builder, pages } = await setUp();
    expect(builder.plan('send', pages)).toMatchObject({ row: 8, strategy: 'linear' });
    const mapping = await builder.map('send', pages);
    expect(mapping.plan).toMatchObject({ row: 13, strategy: 'bounce', bytesCopied: 4 * PAGE });
    mapping.retire(WcStatus.SUCCESS);
    expect(builder.windows!.stats.links).toBe(0);
  });

  it("are the kernel's default where it does not say", async () => {
    allowMappings(undefined);
    const { builder, pages } = await setUp();
    const batch = DmaBatch.start(builder, 'linear', 'toDevice');
    for (let i = 0; i < 65_530 / 2 + 1; i++) batch.add(pages[i % 4]!);
    await expect(batch.finalize()).rejects.toThrow(/32766 mappings, more than 32765/);
    batch.abort();
    (await map(builder, pages)).retire(WcStatus.SUCCESS);
  });
});

describe('idle windows', () => {
  it('are kept for the next transfers, eight of each size', async () => {
    const { pd, builder, pages } = await setUp();
    const mappings = await Promise.all(Array.from({ length: 10 }, () => map(builder, pages)));
    expect(builder.windows!.stats).toEqual({ windows: 10, links: 20 });
    for (const mapping of mappings) mapping.retire(WcStatus.SUCCESS);
    await builder.idle();
    expect(builder.windows!.stats).toEqual({ windows: 8, links: 0 });
    expect(pd.windows.filter(({ closed }) => closed)).toHaveLength(2);
  });

  it('that cannot be closed are warned of, and nothing else', async () => {
    const { pd, builder, pages } = await setUp({ onDemandPaging: true });
    const mappings = await Promise.all(Array.from({ length: 9 }, () => map(builder, pages)));
    const warned = new Promise((resolve) => process.once('warning', resolve));
    for (const mr of pd.live) mr.close = () => Promise.reject(new Error('fake: busy'));
    for (const mapping of mappings) mapping.retire(WcStatus.SUCCESS);
    expect(await warned).toMatchObject({ message: 'fake: busy' });
    expect(builder.windows!.stats).toEqual({ windows: 8, links: 0 });
  });

  it('are not used again when the protection domain closed them meanwhile', async () => {
    const { pd, builder, pages } = await setUp();
    const mapping = await map(builder, pages);
    pd.windows[0]!.close();
    mapping.retire(WcStatus.WR_FLUSH_ERR);
    await builder.idle();
    expect(builder.windows!.stats).toEqual({ windows: 0, links: 0 });
    (await map(builder, pages)).retire(WcStatus.SUCCESS);
    expect(pd.windows).toHaveLength(2);
  });

  it('with a standing key are linked at once, and later when that fails', async () => {
    const { pd, builder, pages } = await setUp({ onDemandPaging: true });
    (await map(builder, pages)).retire(WcStatus.SUCCESS);
    const [window] = pd.windows;
    const { link } = window!;
    let failures = 1;
    window!.link = (links) => {
      if (failures-- > 0) throw new RdmaError('ENOMEM', 'fake: no mappings');
      link.call(window, links);
    };
    expect(builder.tryMap('send', pages.slice(0, 2), { force: 'linear' })).toBeUndefined();
    const mapping = builder.tryMap('send', pages.slice(0, 2), { force: 'linear' })!;
    expect(mapping.plan).toMatchObject({ strategy: 'linear', registers: 0 });
    expect(window!.links).toHaveLength(2);
    mapping.retire(WcStatus.SUCCESS);
    expect(pd.live.size).toBe(2);
  });
});

describe('a window of more than 2^31 bytes', () => {
  it('is refused when it is forced, and for a peer', async () => {
    const { builder } = await setUp();
    const block = await builder.arena.alloc(64 * 2 ** 20);
    // The same pages again and again: nothing of this is touched.
    const huge = Array.from({ length: 33 }, () => block);
    expect(() => builder.plan('write', huge, { force: 'linear' })).toThrow(
      /2214592512 bytes of pages exceed the largest window, 2147483648/,
    );
    await expect(builder.expose(huge, Access.REMOTE_READ)).rejects.toMatchObject({
      code: 'EMSGSIZE',
      errno: -90,
      fragment: 0,
    });
    expect(builder.windows!.stats).toEqual({ windows: 0, links: 0 });
    block.free();
    const exposure = await builder.expose(await builder.arena.alloc(PAGE), Access.REMOTE_READ);
    await exposure.revoke();
  });
});
