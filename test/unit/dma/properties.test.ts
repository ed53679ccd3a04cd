// Random fragment lists on fake devices of every kind: all branches, without a device.

import { describe, expect, it } from 'vitest';
import { Arena } from '../../../lib/dma/arena.ts';
import { openLocalKey } from '../../../lib/dma/local-key.ts';
import { RwContext } from '../../../lib/rw/rw-context.ts';
import type { RwQp } from '../../../lib/rw/types.ts';
import { Access } from '../../../lib/verbs/constants.ts';
import { anyCase } from '../../properties/cases.ts';
import { carryOutCase, checkCases, Hang, type Link, Tally } from '../../properties/check.ts';
import { makeGrounds } from '../../properties/memory.ts';
import { FakePd } from './fake-memory.ts';
import { FakeQp } from './fake-qp.ts';

const MOST = 256 * 1024;
const tick = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

interface Device {
  readonly name: string;
  readonly pd: () => FakePd;
  readonly caps?: Partial<RwQp['caps']>;
}

const devices: readonly Device[] = [
  { name: 'rxe', pd: () => new FakePd('rxe') },
  { name: 'rxe with on-demand paging', pd: () => new FakePd('rxe', 'ib', { onDemandPaging: true }) },
  { name: 'siw', pd: () => new FakePd('siw', 'iwarp'), caps: { maxReadSge: 1, maxSendSge: 6 } },
  { name: 'an iWARP card', pd: () => new FakePd('cxgb4', 'iwarp'), caps: { maxReadSge: 1 } },
  {
    name: 'a card with implicit on-demand paging',
    pd: () => new FakePd('mlx5', 'ib', { implicit: true }),
  },
  {
    name: 'a card without windows',
    pd: () => Object.assign(new FakePd('mlx4'), { reserveWindow: undefined }),
  },
  {
    name: 'one SGE and no inline data',
    pd: () => new FakePd('mlx5'),
    caps: { maxSendSge: 1, maxRecvSge: 1, maxReadSge: 1, maxInlineData: 0 },
  },
  { name: 'short messages', pd: () => new FakePd('mlx5'), caps: { maxMessage: 10_000, maxSendWr: 64 } },
];

async function linkOf({ pd: make, caps }: Device): Promise<Link> {
  const pd = make();
  if (pd.device.caps.odp.implicit) await openLocalKey(pd);
  const peer = new FakePd();
  const qp = new FakeQp(pd, peer, caps);
  const near = new RwContext(qp);
  const bytes = Buffer.alloc(MOST + 128 * 1024);
  const mr = await peer.regMr(bytes, Access.REMOTE_READ | Access.REMOTE_WRITE | Access.LOCAL_WRITE);
  const grounds = await makeGrounds(near.builder.arena, new Arena(new FakePd()), MOST);
  const inbox = Buffer.alloc(bytes.length);
  const regions = () => pd.live.size - near.builder.arena.stats.slabs;
  const { blocks } = near.builder.arena.stats;
  const start = regions();
  const drive = async (done: () => boolean): Promise<void> => {
    const end = performance.now() + 5000;
    while (!done()) {
      if (performance.now() > end) throw new Hang('nothing happens any more');
      qp.run();
      await tick();
    }
  };
  return {
    near,
    grounds,
    remote: { bytes, addr: mr.addr, rkey: mr.rkey },
    inbox,
    carryOut: async (operation) => {
      let over = false;
      const settled = operation.finally(() => {
        over = true;
      });
      settled.catch(() => undefined);
      await drive(() => over);
      return settled;
    },
    arrived: () => Promise.resolve(),
    receive: async (offset) => {
      await drive(() => qp.messages.length > 0);
      const message = qp.messages.shift()!;
      inbox.set(message, offset);
      return { bytes: message.length };
    },
    deliver: async (message) => {
      await drive(() => qp.receives.length > 0);
      qp.deliver(message);
    },
    excess: () => {
      if (regions() !== start) return `${regions() - start} regions`;
      const more = near.builder.arena.stats.blocks - blocks;
      return more === 0 ? undefined : `${more} blocks`;
    },
  };
}

describe.each(devices)('any fragment list on $name', (device) => {
  it('arrives as its concatenation, and nothing else is touched or kept', async () => {
    const tally = new Tally();
    let link: Link | undefined;
    await checkCases(anyCase(MOST), { runs: 120 }, async (spec) => {
      link ??= await linkOf(device);
      try {
        await carryOutCase(link, spec, tally);
      } catch (error) {
        link = undefined;
        throw error;
      }
    });
    expect(tally.cases).toBeGreaterThan(0);
  }, 120_000);
});
