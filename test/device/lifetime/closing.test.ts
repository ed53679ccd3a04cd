/** Objects that are closed in any order, with work in flight. */
import { beforeAll, describe, expect, it } from 'vitest';
import { liveObjects, Opcode, SendFlags, WcStatus } from '../../../lib/index.ts';
import { devices } from '../helpers/devices.ts';
import { connectedPair, type Pair } from '../helpers/pair.ts';
import { eventually, kernelObjects, settled, stable } from './resources.ts';
import { HANG_MS, runProgram } from './run.ts';

/** Of the orders every so many-th is tried; `npm run test:lifetime` tries all. */
const SHARE = 16;

describe.each(devices)('closing on $name', { timeout: HANG_MS + 5000 }, ({ name, host }) => {
  // The first connection leaves what is kept for all: the event channel, and a context of the device.
  beforeAll(async () => (await connectedPair(name)).close());

  it('works in every order, while data flows', async () => {
    const { out, ...end } = await runProgram('closing-orders', [name, host, String(SHARE)]);
    expect(end).toEqual({ code: 0, signal: null, err: '' });
    const { orders, kernelBefore, kernelAfter } = JSON.parse(out);
    expect(orders).toBeGreaterThan(100);
    expect(kernelAfter).toEqual(kernelBefore);
  });

  it('destroys a completion queue whose events have not all been acknowledged', async () => {
    const { out, ...end } = await runProgram('closing-events', [name]);
    expect(end).toEqual({ code: 0, signal: null, err: '' });
    expect(out.match(/closed after/g)).toHaveLength(5);
  });

  it('gives back to the kernel what is closed, although the connection ids stay', async () => {
    const look = () => {
      const { cq, pd, qp } = kernelObjects(name);
      return { cq, pd, qp };
    };
    const pair = await connectedPair(name);
    const open = await stable(look);
    for (const end of [pair.client, pair.server]) end.qp.close();
    for (const one of [pair.clientCq, pair.serverCq, pair.pd]) one.close();
    const wanted = { cq: open.cq - 2, pd: open.pd - 1, qp: open.qp - 2 };
    expect(await settled(look, wanted, 2000)).toEqual(wanted);
    expect(pair.client.closed || pair.server.closed).toBe(false);
    await pair.close();
  });

  /** Work in flight on both ends: reads, writes and receives that nothing meets. Counts by status what is retired. */
  async function inFlight(pair: Pair) {
    const { mr } = await pair.memory(1 << 20);
    const half = mr.length / 2;
    const statuses: number[] = [];
    const retired = (status: number) => statuses.push(status);
    let posted = 0;
    for (const { qp } of [pair.client, pair.server]) {
      for (let i = 0; i < 8; i += 1) {
        qp.postRecv({ sges: [{ addr: mr.addr, length: 64, lkey: mr.lkey }] }, retired);
        const range = {
          sges: [{ addr: mr.addr, length: half, lkey: mr.lkey }],
          remoteAddr: mr.addr + half,
          rkey: mr.rkey,
          flags: i % 4 === 3 ? 0 : SendFlags.SIGNALED,
        };
        const read = { opcode: Opcode.RDMA_READ, ...range };
        qp.postSend(i % 2 === 0 ? read : { opcode: Opcode.RDMA_WRITE, ...range }, retired);
        posted += 2;
      }
    }
    return { statuses, posted, mr };
  }

  const closers: [what: string, close: (pair: Pair) => void][] = [
    ['one queue pair', ({ client }) => client.qp.close()],
    ['both queue pairs', ({ client, server }) => void [client.qp.close(), server.qp.close()]],
    ['the completion queues', ({ clientCq, serverCq }) => void [clientCq.close(), serverCq.close()]],
    ['one connection id', ({ client }) => client.close()],
    ['the domain', ({ pd }) => pd.close()],
    ['the device', ({ device }) => device.close()],
  ];
  it.each(closers)('of %s retires what is in flight, each once, and lets its memory go', async (_, close) => {
    const before = liveObjects();
    const pair = await connectedPair(name, { maxSendWr: 16, maxRecvWr: 16, connect: { retryCount: 1 } });
    const { statuses, posted, mr } = await inFlight(pair);
    close(pair);
    // The other end learns of it by an error, or by the end of the connection.
    expect(await eventually(() => statuses.length >= posted)).toBe(true);
    await mr.close();
    await pair.close();
    expect(statuses).toHaveLength(posted);
    expect(statuses).toContain(WcStatus.WR_FLUSH_ERR);
    expect(liveObjects()).toBe(before);
  });
});
