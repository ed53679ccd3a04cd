/** A peer that is killed while it is connected. */
import { once } from 'node:events';
import { describe, expect, it } from 'vitest';
import { liveObjects } from '../../../lib/index.ts';
import { devices } from '../helpers/devices.ts';
import { connectedPair } from '../helpers/pair.ts';
import { connectTo, keepWriting, parseRemote, serve } from './connection.ts';
import { eventually, kernelObjects, openFds, settled } from './resources.ts';
import { HANG_MS, startProgram } from './run.ts';

describe.each(devices)('a peer on $name that is killed', { timeout: HANG_MS + 5000 }, ({ name, host }) => {
  it('while it writes: the server hears of it, has its receives back, and serves the next', async () => {
    const server = await serve(name, host);
    // What is kept for good after a first connection is not counted.
    await (await connectTo(name, host, server.remote.port)).close();
    expect(await eventually(() => server.ids.size === 0)).toBe(true);
    const before = { kernel: kernelObjects(name), live: liveObjects(), fds: openFds() };
    for (let round = 0; round < 2; round += 1) {
      const client = startProgram('peer', ['connect', name, host, JSON.stringify(server.remote)]);
      await client.said('traffic');
      const [id] = server.ids;
      const qp = id!.qp!;
      const disconnected = once(id!, 'disconnected');
      client.child.kill('SIGKILL');
      await disconnected;
      expect(await client.ended).toMatchObject({ code: null, signal: 'SIGKILL', err: '' });
      expect(await eventually(() => qp.closed && server.ids.size === 0)).toBe(true);
    }
    const now = () => ({ kernel: kernelObjects(name), live: liveObjects(), fds: openFds() });
    expect(await settled(now, before)).toEqual(before);
    await server.close();
  });

  it('while it is written to and read from: everything in flight fails, and the next connection works', async () => {
    const server = startProgram('peer', ['serve', name, host]);
    const remote = parseRemote(await server.said('}'));
    const client = await connectTo(name, host, remote.port);
    const traffic = keepWriting(client.qp, client.slab.mr, remote);
    expect(await eventually(() => traffic.completed > 20)).toBe(true);
    const end = once(client.id, 'disconnected');
    server.child.kill('SIGKILL');
    await server.ended;
    expect(await eventually(() => traffic.completed + traffic.flushed === traffic.posted)).toBe(true);
    expect(traffic.flushed).toBeGreaterThan(0);
    await end;
    expect(client.qp.state).toBe('ERR');
    await client.close();
    await (await connectedPair(name)).close();
  });
});
