/**
 * What a region is after ibv_rereg_mr(3), which the fake of this directory answers: program.js device scenario. Says
 * "passed: scenario" when all went as it must.
 */
import assert from 'node:assert/strict';
import {
  Access,
  liveObjects,
  type MemoryRegion,
  Opcode,
  openDevice,
  type ProtectionDomain,
  RdmaError,
} from '../../../../lib/index.ts';
import { connectedPair, type Pair } from '../../helpers/pair.ts';

const [name, scenario] = process.argv.slice(2) as ['rxe0' | 'siw0', string];
const ALL = Access.LOCAL_WRITE | Access.REMOTE_READ | Access.REMOTE_WRITE;

/** Sends [text] to the first bytes of [mr]. */
async function receive(pair: Pair, mr: MemoryRegion, text: string): Promise<void> {
  const received = pair.server.qp.recv({ sges: [{ addr: mr.addr, length: text.length, lkey: mr.lkey }] });
  await pair.client.qp.send({ opcode: Opcode.SEND, sges: [], inline: Buffer.from(text) });
  await received;
}

/** A READ of the first bytes of [mr], by its rkey. */
async function read(pair: Pair, mr: MemoryRegion, length: number): Promise<string> {
  const { bytes, mr: sink } = await pair.memory(length);
  const sges = [{ addr: sink.addr, length, lkey: sink.lkey }];
  await pair.client.qp.send({ opcode: Opcode.RDMA_READ, sges, remoteAddr: mr.addr, rkey: mr.rkey });
  return bytes.toString();
}

function refusesKey(pair: Pair, lkey: number, addr: number): void {
  assert.throws(
    () => pair.server.qp.postRecv({ sges: [{ addr, length: 1, lkey }] }),
    /no open memory region/,
  );
}

/** The error of a rereg that fails. */
async function failure(work: Promise<void>): Promise<RdmaError> {
  const error = await work.then(
    () => assert.fail('the rereg should have failed'),
    (e: unknown) => e,
  );
  assert(error instanceof RdmaError);
  assert.equal(error.syscall, 'ibv_rereg_mr');
  return error;
}

/** The region has moved to [after], with keys of its own; [before] is not reached any more. */
async function checkMoved(pair: Pair, mr: MemoryRegion, lkey: number, before: Buffer, after: Buffer) {
  assert.notEqual(mr.lkey, lkey);
  assert.equal(mr.length, after.length);
  assert.equal(mr.valid, true);
  refusesKey(pair, lkey, mr.addr);
  await receive(pair, mr, 'new memory');
  assert.equal(after.toString('latin1', 0, 10), 'new memory');
  assert.equal(before.toString('latin1', 0, 10), 'old memory');
  assert.equal(await read(pair, mr, 10), 'new memory');
  assert.throws(
    () => pair.server.qp.postRecv({ sges: [{ addr: mr.addr, length: after.length + 1, lkey: mr.lkey }] }),
    /range|region/,
  );
}

async function withRegion(
  run: (pair: Pair, mr: MemoryRegion, before: Buffer, after: Buffer) => Promise<void>,
) {
  const pair = await connectedPair(name);
  const before = Buffer.alloc(4096);
  const after = Buffer.alloc(100_000);
  const mr = await pair.pd.regMr(before, ALL);
  await receive(pair, mr, 'old memory');
  await run(pair, mr, before, after);
  await mr.close();
  await pair.close();
}

const scenarios: Record<string, () => Promise<void>> = {
  memory: () =>
    withRegion(async (pair, mr, before, after) => {
      const { lkey } = mr;
      await mr.rereg({ memory: after });
      await checkMoved(pair, mr, lkey, before, after);
    }),

  access: () =>
    withRegion(async (pair, mr) => {
      await mr.rereg({ access: Access.REMOTE_READ });
      assert.equal(mr.access, Access.REMOTE_READ);
      assert.throws(
        () => pair.server.qp.postRecv({ sges: [{ addr: mr.addr, length: 1, lkey: mr.lkey }] }),
        /LOCAL_WRITE/,
      );
      assert.equal(await read(pair, mr, 10), 'old memory');
    }),

  async pd() {
    const pair = await connectedPair(name);
    const device = openDevice(name);
    const [first, second]: ProtectionDomain[] = [pair.device.allocPd(), pair.device.allocPd()];
    const foreign = device.allocPd();
    const mr = await first!.regMr(Buffer.alloc(64), ALL);
    refusesKey(pair, mr.lkey, mr.addr);
    await mr.rereg({ pd: second! });
    assert.equal(mr.pd, second);
    // The first domain has nothing to do with it any more.
    first!.close();
    assert.equal(mr.closed, false);
    await mr.rereg({ pd: pair.pd });
    await receive(pair, mr, 'domain');
    assert.equal(await read(pair, mr, 6), 'domain');
    second!.close();
    assert.equal(mr.closed, false);
    foreign.close();
    await pair.close();
    assert.equal(mr.closed, true);
    device.close();
  },

  unchanged: () =>
    withRegion(async (pair, mr, before, after) => {
      const { lkey, rkey, addr } = mr;
      const error = await failure(mr.rereg({ memory: after, access: 0 }));
      assert.equal(error.code, 'EIO');
      assert.match(error.message, /the region is as it was/);
      assert.deepEqual([mr.lkey, mr.rkey, mr.addr, mr.access, mr.valid], [lkey, rkey, addr, ALL, true]);
      await receive(pair, mr, 'still here');
      assert.equal(before.toString('latin1', 0, 10), 'still here');
      assert.equal(await read(pair, mr, 10), 'still here');
    }),

  'changed-all-the-same': () =>
    withRegion(async (pair, mr, before, after) => {
      const { lkey } = mr;
      assert.match((await failure(mr.rereg({ memory: after }))).message, /has been changed all the same/);
      await checkMoved(pair, mr, lkey, before, after);
    }),

  invalid: () =>
    withRegion(async (pair, mr, _, after) => {
      const { lkey, addr } = mr;
      assert.match(
        (await failure(mr.rereg({ memory: after }))).message,
        /can not be used any more: close it/,
      );
      assert.equal(mr.valid, false);
      refusesKey(pair, lkey, addr);
    }),

  busy: () =>
    withRegion(async (pair, mr, _, after) => {
      const held = pair.server.qp.recv({ sges: [{ addr: mr.addr, length: 10, lkey: mr.lkey }] });
      const error = await failure(mr.rereg({ memory: after }));
      assert.equal(error.code, 'EBUSY');
      assert.match(error.message, /work requests in flight, memory windows or another change hold/);
      await pair.client.qp.send({ opcode: Opcode.SEND, sges: [], inline: Buffer.from('released') });
      await held;
      await mr.rereg({ memory: after });
    }),

  meanwhile: () =>
    withRegion(async (pair, mr, before, after) => {
      const { lkey, addr } = mr;
      const changing = mr.rereg({ memory: after });
      refusesKey(pair, lkey, addr);
      assert.equal((await failure(mr.rereg({ access: 0 }))).code, 'EBUSY');
      await changing;
      await checkMoved(pair, mr, lkey, before, after);
    }),

  'closed-meanwhile': () =>
    withRegion(async (pair, mr, _, after) => {
      const { lkey, addr } = mr;
      const order: string[] = [];
      const changing = mr.rereg({ memory: after }).then(() => order.push('changed'));
      await mr.close().then(() => order.push('gone'));
      await changing;
      assert.deepEqual(order, ['changed', 'gone']);
      refusesKey(pair, lkey, addr);
      refusesKey(pair, mr.lkey, mr.addr);
    }),

  async 'domain-closed-meanwhile'() {
    const device = openDevice(name);
    const [old, next] = [device.allocPd(), device.allocPd()];
    const mr = await old.regMr(Buffer.alloc(64), ALL);
    const changing = mr.rereg({ pd: next });
    next.close();
    await changing;
    // It is the new domain's, which is closed.
    assert.equal(mr.closed, true);
    old.close();
    device.close();
    assert.equal(liveObjects(), 0);
  },
};

await scenarios[scenario]!();
console.log(`passed: ${scenario}`);
