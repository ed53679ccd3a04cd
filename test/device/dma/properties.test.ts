// Random fragment lists on the devices: every byte, every guard, and nothing left pinned.

import { afterAll, describe, expect, it } from 'vitest';
import { Access, Arena, liveObjects, openDevice, RwContext } from '../../../lib/index.ts';
import { anyCase } from '../../properties/cases.ts';
import { carryOutCase, checkCases, type Link, propertySeconds, Tally } from '../../properties/check.ts';
import { makeGrounds, releaseGrounds } from '../../properties/memory.ts';
import { devices } from '../helpers/devices.ts';
import { connectedPair } from '../helpers/pair.ts';
import { kernelObjects, processMemory, settled } from '../lifetime/resources.ts';

const MiB = 1024 * 1024;
const MOST = 16 * MiB;

interface DeviceLink extends Link {
  close(): Promise<void>;
}

async function connect(name: 'rxe0' | 'siw0'): Promise<DeviceLink> {
  const pair = await connectedPair(name, { maxSendWr: 64, maxRecvWr: 8, maxSendSge: 4, maxRecvSge: 4 });
  const near = new RwContext(pair.client.qp);
  const far = new RwContext(pair.server.qp);
  const { arena } = near.builder;
  // Of another protection domain of the same device: foreign to the queue pair.
  const others = openDevice(name).allocPd();
  const grounds = await makeGrounds(arena, Arena.for(others), MOST);
  const remote = await pair.memory(MOST + MiB, Access.LOCAL_WRITE | Access.REMOTE_READ | Access.REMOTE_WRITE);
  const inbox = await arena.alloc(MOST + MiB);
  const outbox = await arena.alloc(MOST + MiB);
  const marker = await arena.alloc(64);
  const pinned = () => processMemory('VmPin') * 1024 - arena.stats.reserved;
  const objects = () => liveObjects() - arena.stats.slabs;
  const start = { pinned: pinned(), objects: objects(), blocks: arena.stats.blocks };
  return {
    near,
    grounds,
    remote: { bytes: remote.bytes, addr: remote.mr.addr, rkey: remote.mr.rkey },
    inbox: inbox.bytes,
    carryOut: (operation) => operation,
    // On iWARP a WRITE is complete when TCP has it; the answer to a READ behind it says that it has arrived.
    arrived: async () => {
      await near.read(marker.bytes.subarray(0, 1), { addr: remote.mr.addr, rkey: remote.mr.rkey });
    },
    receive: (offset, length) => far.recv(inbox.bytes.subarray(offset, offset + length)),
    deliver: (message) => {
      outbox.bytes.set(message);
      return far.send(outbox.bytes.subarray(0, message.length));
    },
    excess: () => {
      const now = { pinned: pinned(), objects: objects(), blocks: arena.stats.blocks };
      const more = (['pinned', 'objects', 'blocks'] as const).filter((what) => now[what] !== start[what]);
      return more.length === 0 ? undefined : more.map((what) => `${what}: ${now[what] - start[what]}`).join();
    },
    close: async () => {
      releaseGrounds(grounds);
      await pair.close();
      others.device.close();
    },
  };
}

describe.each(devices)('any fragment list on $name', ({ name }) => {
  let link: DeviceLink | undefined;
  afterAll(() => link?.close());

  it(
    'arrives as its concatenation, and nothing else is touched or pinned',
    async () => {
      const regions = kernelObjects(name).mr;
      const tally = new Tally();
      await checkCases(anyCase(MOST), { runs: 300 }, async (spec) => {
        link ??= await connect(name);
        try {
          await carryOutCase(link, spec, tally);
        } catch (error) {
          // Its queue pair may have failed; the next case has another.
          const broken = link;
          link = undefined;
          await broken.close();
          throw error;
        }
      });
      if (propertySeconds > 0) console.log(`${name}: ${tally}`);
      expect(tally.cases).toBeGreaterThan(0);
      await link?.close();
      link = undefined;
      expect((await settled(() => kernelObjects(name), { ...kernelObjects(name), mr: regions })).mr).toBe(
        regions,
      );
    },
    (propertySeconds + 180) * 1000,
  );
});
