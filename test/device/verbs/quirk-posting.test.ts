/** One test for each rule of native/core/providers that concerns posting, on both devices. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import {
  CmId,
  Opcode,
  openDevice,
  type RdmaError,
  SendFlags,
  type SendWr,
  WcStatus,
} from '../../../lib/index.ts';
import { checks } from '../../../lib/ring/post-error.ts';
import { devices } from '../helpers/devices.ts';
import { connectedPair, type Pair } from '../helpers/pair.ts';
import { rdmaErrorOf } from '../helpers/rejection.ts';

const PAGE = 4096;

interface Memory {
  readonly bytes: Buffer;
  readonly mr: { readonly addr: number; readonly lkey: number; readonly rkey: number };
}

/** Registered memory that starts at a page boundary. */
async function pages(pair: Pair, count: number): Promise<Memory> {
  const { mr, buffer } = await pair.pd.allocSlab(count * PAGE, 7);
  return { bytes: Buffer.from(buffer), mr };
}

describe.each(devices)('quirks of posting on $name', ({ name, host }) => {
  const siw = name === 'siw0';
  let pair: Pair;
  let local: Memory;
  let remote: Memory;

  beforeEach(async () => {
    pair = await connectedPair(name, { maxSendWr: 32, maxRecvWr: 32 });
    local = await pages(pair, 4);
    remote = await pages(pair, 4);
  });
  afterEach(() => pair.close());

  const sge = (memory: Memory, offset: number, length: number) => ({
    addr: memory.mr.addr + offset,
    length,
    lkey: memory.mr.lkey,
  });
  const write = (offset: number, length: number, flags = 0): SendWr => ({
    opcode: Opcode.RDMA_WRITE,
    sges: [sge(local, offset, length)],
    remoteAddr: remote.mr.addr + offset,
    rkey: remote.mr.rkey,
    flags,
  });
  const read = (offset: number, length: number, flags = 0): SendWr => ({
    opcode: Opcode.RDMA_READ,
    sges: [sge(local, 0, length)],
    remoteAddr: remote.mr.addr + offset,
    rkey: remote.mr.rkey,
    flags,
  });

  async function stillWorks(): Promise<void> {
    local.bytes.write('still works');
    await pair.client.qp.send(write(0, 11));
    expect(remote.bytes.toString('latin1', 0, 11)).toBe('still works');
  }
  async function refused(wr: SendWr, text: RegExp): Promise<RdmaError> {
    const error = await rdmaErrorOf(() => pair.client.qp.send(wr));
    expect(error.message).toMatch(text);
    expect(error).toMatchObject({ posted: 0, wrIndex: 0 });
    await stillWorks();
    return error;
  }

  it('read-fence: READ with FENCE', async () => {
    if (siw) await refused(read(0, 8, SendFlags.FENCE), /quirk read-fence/);
    else await pair.client.qp.send(read(0, 8, SendFlags.FENCE));
    await pair.client.qp.send(write(0, 8, SendFlags.FENCE));
    await stillWorks();
  });

  it('inline-opcodes: SEND_WITH_INV inline', async () => {
    if (!siw) return;
    const wr: SendWr = { opcode: Opcode.SEND_WITH_INV, inline: Buffer.from('x'), invalidateRkey: 1 };
    await refused(wr, /INLINE is only for SEND and RDMA WRITE here, not for opcode 9/);
  });

  it.each([3, 8, 20, 32])(
    'tiny-straddle: %i bytes across a page, sent by a driver thread, arrive as they were',
    async (length) => {
      // What precedes fills the socket, so that a thread of the driver sends the rest.
      const bulk = await pages(pair, 1024);
      // Half on each side would hide it.
      const start = PAGE - Math.min(6, length - 1);
      for (let round = 0; round < 8; round += 1) {
        for (let i = 0; i < length; i += 1) local.bytes[start + i] = 1 + round * 37 + i;
        const sent = Buffer.from(local.bytes.subarray(start, start + length));
        const received = pair.server.qp.recv({ sges: [sge(remote, 2 * PAGE, 64)] });
        const list: SendWr[] = [
          {
            opcode: Opcode.RDMA_WRITE,
            sges: [sge(bulk, 0, 1024 * PAGE)],
            remoteAddr: bulk.mr.addr,
            rkey: bulk.mr.rkey,
          },
          write(start, length),
          { opcode: Opcode.SEND, sges: [sge(local, start, length)], flags: SendFlags.SIGNALED },
        ];
        await new Promise<void>((resolve) => {
          pair.client.qp.postSend(list, [null, null, () => resolve()]);
        });
        expect((await received).byteLen).toBe(length);
        expect(remote.bytes.subarray(2 * PAGE, 2 * PAGE + length)).toEqual(sent);
        expect(remote.bytes.subarray(start, start + length)).toEqual(sent);
      }
    },
  );

  it('tiny-straddle: a READ of such a remote range', async () => {
    remote.bytes.write('across the page', PAGE - 6);
    if (siw) {
      await refused(read(PAGE - 6, 15), /quirk tiny-straddle\): post two, of 6 and 9 bytes/);
      await refused(read(PAGE - 1, 32), /of 1 and 31 bytes/);
      // 33 bytes, and 32 that end with the page, are as good as any.
      await pair.client.qp.send(read(PAGE - 6, 33));
      expect(local.bytes.toString('latin1', 0, 15)).toBe('across the page');
      await pair.client.qp.send(read(PAGE - 32, 32));
    } else {
      await pair.client.qp.send(read(PAGE - 6, 15));
    }
    expect(local.bytes.toString('latin1', siw ? 26 : 0, siw ? 32 : 6)).toBe('across');
    await stillWorks();
  });

  it('zero-copy-transmit: 4096 bytes and more have a completion of their own', async () => {
    const retired: number[] = [];
    await new Promise<void>((resolve) => {
      pair.client.qp.postSend(
        [write(0, PAGE), write(0, PAGE - 1), read(0, 8), write(0, 8, SendFlags.SIGNALED)],
        [0, 1, 2, 3].map((i) => (status: number, _: number, wc: number) => {
          expect(status).toBe(WcStatus.SUCCESS);
          if (wc >= 0) retired.push(i);
          if (i === 3) setTimeout(resolve, 20);
        }),
      );
    });
    // READs are signalled there as well (read-completes-late), and complete after what follows them.
    expect(retired.sort()).toEqual(siw ? [0, 2, 3] : [3]);
    expect(pair.client.qp.sendFree).toBe(32);
  });

  it('recv-needs-sge: a receive without SGEs takes an empty message', async () => {
    const received = pair.server.qp.recv({ sges: [] });
    await pair.client.qp.send({ opcode: Opcode.SEND, sges: [] });
    expect((await received).byteLen).toBe(0);
  });

  it('empty-sge: lists with empty SGEs in every place', async () => {
    const empty = sge(local, 0, 0);
    const full = sge(local, 0, 5);
    local.bytes.write('empty');
    for (const sges of [
      [empty, full],
      [full, empty],
      [empty, full, empty],
      [empty, empty],
    ]) {
      const received = pair.server.qp.recv({
        sges: [sge(remote, 0, 0), sge(remote, 0, 8), sge(remote, 0, 0)],
      });
      await pair.client.qp.send({ opcode: Opcode.SEND, sges });
      expect((await received).byteLen).toBe(sges.includes(full) ? 5 : 0);
    }
  });

  it('post-before-rts: a send before the connection stands is refused, and does no harm', async () => {
    const listener = new CmId();
    listener.bind({ host, port: 0 });
    listener.listen();
    using device = openDevice(name);
    const pd = device.allocPd();
    const accepted = new Promise<CmId>((resolve) => {
      listener.once('connectRequest', (id) => {
        id.createQp({ pd, sendCq: device.createCq() });
        id.accept().then(() => resolve(id));
      });
    });
    const client = new CmId();
    await client.resolveAddr({ host, port: listener.localAddress!.port });
    await client.resolveRoute();
    const qp = client.createQp({ pd, sendCq: device.createCq() });
    const bytes = Buffer.from('before and after');
    const mr = pd.regMrSync(bytes, 7);
    const sges = [{ addr: mr.addr, length: 6, lkey: mr.lkey }];
    for (let i = 0; i < 3; i += 1) {
      const error = await rdmaErrorOf(() => qp.postSend({ opcode: Opcode.SEND, sges }));
      expect(error).toMatchObject({ code: 'ENOTCONN', posted: 0 });
      expect(error.message).toMatch(/in the state INIT: connect it first, to RTS at least/);
    }
    const [, server] = await Promise.all([client.connect(), accepted]);
    const received = server.qp!.recv({ sges: [{ addr: mr.addr + 8, length: 8, lkey: mr.lkey }] });
    await qp.send({ opcode: Opcode.SEND, sges });
    expect((await received).byteLen).toBe(6);
    client.close();
    server.close();
    listener.close();
  });

  it('opcode-table: no number gets past the checks', async () => {
    for (const opcode of [10, 11, 12, 13, 16, 31, 32, 33, 255, 2 ** 31, 2 ** 32 - 1]) {
      const wr = { ...write(0, 8), opcode } as unknown as SendWr;
      const error = await rdmaErrorOf(() => pair.client.qp.postSend(wr));
      expect(error.message).toContain(`opcode ${opcode} is not one that RC queue pairs have`);
    }
    await stillWorks();
  });
});

describe('refusals that name a quirk', () => {
  it('name one that a device has', () => {
    const known = devices.flatMap(({ name }) => {
      using device = openDevice(name);
      return device.quirks.map((quirk) => quirk.name);
    });
    const named = Object.values(checks).flatMap((describeCheck) => {
      const [, text] = describeCheck(1, 1, 1);
      return /quirk ([a-z-]+)/.exec(text)?.[1] ?? [];
    });
    expect(named.length).toBeGreaterThan(1);
    expect(known).toEqual(expect.arrayContaining(named));
  });
});

describe.each(devices)('a queue pair with sqSigAll on $name', ({ name }) => {
  it('completes every work request', async () => {
    const pair = await connectedPair(name, { sqSigAll: true });
    try {
      const memory = await pages(pair, 1);
      const { addr, lkey, rkey } = memory.mr;
      const wr: SendWr = {
        opcode: Opcode.RDMA_WRITE,
        sges: [{ addr, length: 8, lkey }],
        remoteAddr: addr + 64,
        rkey,
      };
      const own = await new Promise<boolean[]>((resolve) => {
        const seen: boolean[] = [];
        pair.client.qp.postSend([wr, wr, wr], (_, __, wc) => {
          if (seen.push(wc >= 0) === 3) resolve(seen);
        });
      });
      expect(own).toEqual([true, true, true]);
    } finally {
      await pair.close();
    }
  });
});
