import { describe, expect, it } from 'vitest';
import type { AsyncEvent, QueuePair, RdmaError } from '../../../lib/index.ts';
import { devices } from '../helpers/devices.ts';
import { connectedPair, type Pair } from '../helpers/pair.ts';

/** A receive in flight on each queue pair. */
async function inFlight({ client, server, memory }: Pair): Promise<Promise<unknown>[]> {
  const { mr } = await memory(64);
  return [client.qp, server.qp].map((qp: QueuePair) =>
    qp.recv({ sges: [{ addr: mr.addr, length: 64, lkey: mr.lkey }] }).catch((error: RdmaError) => error.code),
  );
}

// No soft device sends these; what the library does about them is asked for as their arrival would.
describe.each(devices)('what is in flight on $name', ({ name }) => {
  it('fails when the device has failed (DEVICE_FATAL)', async () => {
    const pair = await connectedPair(name);
    const receives = await inFlight(pair);
    const event: AsyncEvent = { type: 'DEVICE_FATAL', device: pair.device };
    for (const { qp } of [pair.client, pair.server]) qp._react(event);
    expect(await Promise.all(receives)).toEqual(['ERR_RDMA_WC_WR_FLUSH_ERR', 'ERR_RDMA_WC_WR_FLUSH_ERR']);
    expect([pair.client.qp.state, pair.server.qp.state]).toEqual(['ERR', 'ERR']);
    await pair.close();
  });

  it('fails when its completion queue has failed (CQ_ERR)', async () => {
    const pair = await connectedPair(name);
    const receives = await inFlight(pair);
    const cq = pair.serverCq;
    cq._react({ type: 'CQ_ERR', device: pair.device, cq });
    expect(pair.server.qp.closed).toBe(true);
    expect(await receives[1]).toBe('ERR_RDMA_WC_WR_FLUSH_ERR');
    await pair.close();
    await receives[0];
  });

  it('goes on after events that are no failure', async () => {
    const pair = await connectedPair(name);
    const receives = await inFlight(pair);
    const { device, client, server } = pair;
    for (const type of ['COMM_EST', 'PATH_MIG', 'SQ_DRAINED'] as const) {
      server.qp._react({ type, device, qp: server.qp });
    }
    server.qp._react({ type: 'PORT_ERR', device, port: 1 });
    const { mr } = await pair.memory(64);
    await client.qp.send({ opcode: 2, sges: [{ addr: mr.addr, length: 64, lkey: mr.lkey }] });
    expect(await receives[1]).toMatchObject({ byteLen: 64 });
    await pair.close();
    await receives[0];
  });
});
