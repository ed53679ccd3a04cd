import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import {
  Access,
  incRkey,
  type MemoryRegion,
  type MemoryWindow,
  Opcode,
  SendFlags,
  type SendWr,
  WcOpcode,
  WcStatus,
} from '../../../lib/index.ts';
import { connectedPair, type Pair } from '../helpers/pair.ts';
import { rdmaErrorOf } from '../helpers/rejection.ts';

const REMOTE = Access.REMOTE_READ | Access.REMOTE_WRITE;

describe('BIND_MW and LOCAL_INV on rxe0', () => {
  let pair: Pair;
  let local: { bytes: Buffer; mr: MemoryRegion };
  let target: { bytes: Buffer; mr: MemoryRegion };

  beforeEach(async () => {
    pair = await connectedPair('rxe0', { maxSendWr: 16 });
    local = await pair.memory(4096);
    target = await pair.memory(4096, Access.LOCAL_WRITE | Access.MW_BIND);
  });
  afterEach(() => pair.close());

  const bindInfo = (offset = 0, length = 64, access = REMOTE) => ({
    mr: target.mr,
    addr: target.mr.addr + offset,
    length,
    access,
  });
  const bind = (mw: MemoryWindow, offset = 0, length = 64): SendWr => ({
    opcode: Opcode.BIND_MW,
    mw,
    bindInfo: bindInfo(offset, length),
  });
  const write = (rkey: number, offset = 0): SendWr => ({
    opcode: Opcode.RDMA_WRITE,
    sges: [{ addr: local.mr.addr, length: 16, lkey: local.mr.lkey }],
    remoteAddr: target.mr.addr + offset,
    rkey,
  });
  const client = () => pair.client.qp;
  const server = () => pair.server.qp;

  /** The server's windows let the client in. */
  async function writes(rkey: number, text: string, offset = 0): Promise<void> {
    local.bytes.write(text.padEnd(16));
    await client().send(write(rkey, offset));
    expect(target.bytes.toString('latin1', offset, offset + 16)).toBe(text.padEnd(16));
  }

  it.each([1, 2] as const)('a window of type %i lets the peer in with its new rkey', async (type) => {
    const mw = pair.pd.allocMw(type);
    const first = mw.rkey;
    expect((await server().send(bind(mw))).opcode).toBe(WcOpcode.BIND_MW);
    expect(mw.rkey).not.toBe(first);
    expect(mw.rkey >>> 8).toBe(first >>> 8);
    expect(mw.binding).toMatchObject({ addr: BigInt(target.mr.addr), length: 64n, confirmed: true });
    await writes(mw.rkey, `type ${type}`);
    // rxe takes the old rkey for a window's, but not for this one's.
    const error = await rdmaErrorOf(() => client().send(write(first)));
    expect(error.code).toBe('ERR_RDMA_WC_REM_ACCESS_ERR');
  });

  it('a window of type 1 is bound again, and unbound by length 0', async () => {
    const mw = pair.pd.allocMw(1);
    await server().send(bind(mw));
    const first = mw.rkey;
    await server().send(bind(mw, 1024));
    expect(mw.rkey).not.toBe(first);
    await writes(mw.rkey, 'again', 1024);
    await server().send({ opcode: Opcode.BIND_MW, mw, bindInfo: bindInfo(0, 0, 0) });
    expect(mw.binding).toBeUndefined();
    expect((await rdmaErrorOf(() => client().send(write(mw.rkey)))).code).toBe('ERR_RDMA_WC_REM_ACCESS_ERR');
  });

  it('a window of type 2 takes the rkey that is asked for, and binds again after LOCAL_INV', async () => {
    const mw = pair.pd.allocMw(2);
    const rkey = ((mw.rkey & 0xffff_ff00) | 0xa5) >>> 0;
    await server().send({ opcode: Opcode.BIND_MW, mw, bindInfo: bindInfo(), rkey });
    expect(mw.rkey).toBe(rkey);
    await writes(rkey, 'chosen');
    await server().send({ opcode: Opcode.LOCAL_INV, invalidateRkey: rkey });
    expect(mw.binding).toBeUndefined();
    await server().send(bind(mw, 2048));
    expect(mw.rkey).toBe(incRkey(rkey));
    await writes(mw.rkey, 'second', 2048);
  });

  it('one list may bind, invalidate and bind again, between other work', async () => {
    const mw = pair.pd.allocMw(2);
    const [first, second] = [incRkey(mw.rkey), incRkey(incRkey(mw.rkey))];
    const order: number[] = [];
    await new Promise<void>((resolve) => {
      const list: SendWr[] = [
        bind(mw),
        { opcode: Opcode.LOCAL_INV, invalidateRkey: first },
        { opcode: Opcode.SEND, sges: [] },
        { ...bind(mw, 512), flags: SendFlags.SIGNALED },
      ];
      client()
        .recv({ sges: [{ addr: local.mr.addr, length: 64, lkey: local.mr.lkey }] })
        .catch(() => {});
      server().postSend(
        list,
        list.map((_, i) => (status: number) => {
          expect(status).toBe(WcStatus.SUCCESS);
          order.push(i);
          if (i === 3) resolve();
        }),
      );
    });
    expect(order).toEqual([0, 1, 2, 3]);
    expect(mw.rkey).toBe(second);
    expect(mw.binding).toMatchObject({ addr: BigInt(target.mr.addr + 512), confirmed: true });
    await writes(second, 'in one list', 512);
  });

  it('SEND_WITH_INV of the peer ends the binding, and the receive says so', async () => {
    const mw = pair.pd.allocMw(2);
    const rkey = await server().bindMw(mw, bindInfo());
    expect(mw.rkey).toBe(rkey);
    const received = server().recv({ sges: [{ addr: local.mr.addr, length: 64, lkey: local.mr.lkey }] });
    await client().send({ opcode: Opcode.SEND_WITH_INV, sges: [], invalidateRkey: rkey });
    expect(await received).toMatchObject({ opcode: WcOpcode.RECV, byteLen: 0, invalidatedRkey: rkey });
    expect(mw.binding).toBeUndefined();
    // A second invalidation would dereference NULL in the kernel.
    const error = await rdmaErrorOf(() =>
      server().postSend({ opcode: Opcode.LOCAL_INV, invalidateRkey: rkey }),
    );
    expect(error.message).toMatch(/is not that of a bound memory window of type 2/);
    await server().send(bind(mw));
    await writes(mw.rkey, 'bound again');
  });

  it('a bind that fails brings the old rkey back', async () => {
    const mw = pair.pd.allocMw(2);
    const { rkey } = mw;
    // The client's wrong rkey ends the connection before the bind is carried out.
    const failed = rdmaErrorOf(() => server().send(write(0xdead)));
    const bound = rdmaErrorOf(() => server().send(bind(mw)));
    expect(mw.rkey).toBe(incRkey(rkey));
    expect((await failed).code).toBe('ERR_RDMA_WC_REM_ACCESS_ERR');
    const error = await bound.catch(() => undefined);
    if (error === undefined) {
      expect(mw.rkey).toBe(incRkey(rkey));
    } else {
      expect(error.code).toBe('ERR_RDMA_WC_WR_FLUSH_ERR');
      expect(mw.rkey).toBe(rkey);
      expect(mw.binding).toBeUndefined();
    }
  });

  it('a window that is closed with its bind in flight goes when that has completed', async () => {
    const mw = pair.pd.allocMw(2);
    const bound = server().send(bind(mw));
    mw.close();
    await bound;
    const other = pair.pd.allocMw(2);
    await server().send(bind(other));
    await writes(other.rkey, 'still works');
  });

  it.each<[string, (mw: MemoryWindow) => object, RegExp]>([
    [
      'no window',
      () => ({ mw: undefined }),
      /mw must be a MemoryWindow, made by pd.allocMw\(\), not undefined/,
    ],
    ['null as window', () => ({ mw: null }), /mw must be a MemoryWindow.*not null/],
    ['no bindInfo', () => ({ bindInfo: undefined }), /bindInfo must be \{mr, addr, length, access\}/],
    [
      'null as region',
      () => ({ bindInfo: { ...bindInfo(), mr: null } }),
      /bindInfo.mr must be a MemoryRegion/,
    ],
    ['no address', () => ({ bindInfo: { ...bindInfo(), addr: undefined } }), /bindInfo.addr is missing/],
    ['no access', () => ({ bindInfo: { ...bindInfo(), access: undefined } }), /bindInfo.access is missing/],
    ['length 0', () => ({ bindInfo: bindInfo(0, 0) }), /length is 0, which only type 1 takes/],
    ['a range outside the region', () => ({ bindInfo: bindInfo(4000, 100) }), /100 bytes are not all inside/],
    ['a range before the region', () => ({ bindInfo: bindInfo(-1, 10) }), /10 bytes are not all inside/],
    ['access that no window has', () => ({ bindInfo: bindInfo(0, 64, Access.LOCAL_WRITE) }), /can have 0x2e/],
    ['an rkey of another window', (mw) => ({ rkey: mw.rkey + 256 }), /in the low 8 bits only/],
    ['SGEs', () => ({ sges: [{ addr: 0, length: 0, lkey: 0 }] }), /BIND_MW\) takes no SGEs/],
  ])('refuses %s', async (_, change, text) => {
    const mw = pair.pd.allocMw(2);
    const { rkey } = mw;
    const error = await rdmaErrorOf(() => server().postSend({ ...bind(mw), ...change(mw) } as SendWr));
    expect(error.message).toMatch(text);
    expect(error).toMatchObject({ wrIndex: 0, posted: 0 });
    expect(mw.rkey).toBe(rkey);
    await server().send(bind(mw));
    await writes(mw.rkey, 'still works');
  });

  it('refuses a second bind of type 2 without an invalidation, an own rkey for type 1, ZERO_BASED for type 1', async () => {
    const two = pair.pd.allocMw(2);
    await server().send(bind(two));
    const again = await rdmaErrorOf(() => server().postSend(bind(two)));
    expect(again.message).toMatch(/is bound: invalidate it first/);
    const inList = pair.pd.allocMw(2);
    const both = await rdmaErrorOf(() => server().postSend([bind(inList), bind(inList)]));
    expect(both).toMatchObject({ wrIndex: 1, posted: 0 });
    expect(inList.binding).toBeUndefined();
    const one = pair.pd.allocMw(1);
    const chosen = { ...bind(one), rkey: one.rkey } as SendWr;
    expect((await rdmaErrorOf(() => server().postSend(chosen))).message).toMatch(
      /the device chooses the rkey/,
    );
    const based: SendWr = {
      opcode: Opcode.BIND_MW,
      mw: one,
      bindInfo: bindInfo(0, 64, REMOTE | Access.ZERO_BASED),
    };
    expect((await rdmaErrorOf(() => server().postSend(based))).message).toMatch(
      /this type of window can have/,
    );
    await writes(two.rkey, 'still works');
  });

  it('refuses regions without MW_BIND or LOCAL_WRITE, and those of other domains', async () => {
    const mw = pair.pd.allocMw(2);
    const plain = await pair.memory(64);
    const to = (mr: MemoryRegion): SendWr => ({
      opcode: Opcode.BIND_MW,
      mw,
      bindInfo: { mr, addr: mr.addr, length: 64, access: REMOTE },
    });
    expect((await rdmaErrorOf(() => server().postSend(to(plain.mr)))).message).toMatch(/lacks MW_BIND/);
    const readOnly = await pair.memory(64, Access.MW_BIND);
    expect((await rdmaErrorOf(() => server().postSend(to(readOnly.mr)))).message).toMatch(
      /lacks LOCAL_WRITE/,
    );
    const other = pair.device.allocPd();
    const foreign = other.regMrSync(Buffer.alloc(64), Access.LOCAL_WRITE | Access.MW_BIND);
    expect((await rdmaErrorOf(() => server().postSend(to(foreign)))).message).toMatch(
      /bindInfo.mr is of another protection domain/,
    );
    const stranger = other.allocMw(2);
    expect((await rdmaErrorOf(() => server().postSend(bind(stranger)))).message).toMatch(
      /mw is of another protection domain/,
    );
    mw.close();
    expect((await rdmaErrorOf(() => server().postSend(bind(mw)))).code).toBe('ERR_RDMA_CLOSED');
  });

  it('refuses to invalidate anything but a bound window of type 2', async () => {
    const free = pair.pd.allocMw(2);
    const one = pair.pd.allocMw(1);
    await server().send(bind(one));
    for (const invalidateRkey of [free.rkey, one.rkey, target.mr.rkey, 0, 0xffff_ffff]) {
      const error = await rdmaErrorOf(() => server().postSend({ opcode: Opcode.LOCAL_INV, invalidateRkey }));
      expect(error.message).toMatch(/nothing else can be invalidated/);
    }
    const bound = pair.pd.allocMw(2);
    const rkey = incRkey(bound.rkey);
    const twice = await rdmaErrorOf(() =>
      server().postSend([
        bind(bound),
        { opcode: Opcode.LOCAL_INV, invalidateRkey: rkey },
        { opcode: Opcode.LOCAL_INV, invalidateRkey: rkey },
      ]),
    );
    expect(twice).toMatchObject({ wrIndex: 2, posted: 0 });
    await writes(one.rkey, 'still works');
  });
});

describe('BIND_MW and LOCAL_INV on siw0', () => {
  it('are refused: the device has no windows', async () => {
    const pair = await connectedPair('siw0');
    try {
      const { qp } = pair.client;
      const error = await rdmaErrorOf(() => qp.postSend({ opcode: Opcode.LOCAL_INV, invalidateRkey: 1 }));
      expect(error).toMatchObject({ code: 'EOPNOTSUPP', posted: 0 });
      const memory = await pair.memory(64);
      const { addr, rkey, lkey } = memory.mr;
      memory.bytes.write('works');
      await qp.send({
        opcode: Opcode.RDMA_WRITE,
        sges: [{ addr, length: 5, lkey }],
        remoteAddr: addr + 8,
        rkey,
      });
      expect(memory.bytes.toString('latin1', 8, 13)).toBe('works');
    } finally {
      await pair.close();
    }
  });
});
