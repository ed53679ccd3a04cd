/** Memory that JavaScript lets go, gives away or grows while a device works on it. */
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { MessageChannel, type Transferable } from 'node:worker_threads';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Access, type MemoryRegion, Opcode, SendFlags, WcStatus } from '../../../lib/index.ts';
import { devices } from '../helpers/devices.ts';
import { connectedPair, type Pair } from '../helpers/pair.ts';
import { rdmaErrorOf } from '../helpers/rejection.ts';
import { collectUntil } from './resources.ts';

const SIZE = 16 * 1024;
const pattern = Buffer.from(Array.from({ length: SIZE }, (_, i) => (i * 31 + 7) & 0xff));

/** The types of Node.js lack WebAssembly. */
const { Memory: WasmMemory } = (
  globalThis as unknown as {
    WebAssembly: {
      Memory: new (pages: object) => { readonly buffer: ArrayBuffer; grow(pages: number): void };
    };
  }
).WebAssembly;

/** Rounds of garbage collection after which what can be collected has been. */
const ROUNDS = 5;
/** Memory that counts: more than anything else that the tests let go meanwhile. */
const BIG = 16 << 20;

/** The ways in which JavaScript gives an ArrayBuffer's memory to another one. */
const moves: [how: string, move: (buffer: ArrayBuffer) => Promise<ArrayBuffer>][] = [
  ['structuredClone', async (buffer) => structuredClone(buffer, { transfer: [buffer] })],
  [
    'postMessage',
    (buffer) =>
      new Promise((resolve) => {
        const { port1, port2 } = new MessageChannel();
        port2.once('message', (moved: ArrayBuffer) => {
          port1.close();
          resolve(moved);
        });
        port1.postMessage(buffer, [buffer as unknown as Transferable]);
      }),
  ],
];
type Transfer = (this: ArrayBuffer) => ArrayBuffer;
/** Node.js 20 has it behind a flag, which contexts made after it was set heed. */
function findTransfer(): Transfer {
  const known = (ArrayBuffer.prototype as { transfer?: Transfer }).transfer;
  if (known !== undefined) return known;
  setFlagsFromString('--harmony-rab-gsab-transfer');
  return runInNewContext('ArrayBuffer.prototype.transfer') as Transfer;
}
const transfer = findTransfer();
moves.push(['transfer', async (buffer) => transfer.call(buffer)]);

describe.each(devices)('memory in flight on $name', ({ name }) => {
  let pair: Pair;
  let source: { bytes: Buffer; mr: MemoryRegion };

  beforeEach(async () => {
    pair = await connectedPair(name, { maxSendWr: 64, maxRecvWr: 64 });
    source = await pair.memory(SIZE);
    pattern.copy(source.bytes);
  });
  afterEach(() => pair.close());

  const sge = (mr: MemoryRegion) => ({ addr: mr.addr, length: mr.length, lkey: mr.lkey });
  const sendPattern = () => pair.client.qp.send({ opcode: Opcode.SEND, sges: [sge(source.mr)] });

  /** Posts a receive into memory that nothing else refers to when this returns. */
  function orphanReceive(close: boolean): { held: () => boolean; received: Promise<number> } {
    const before = process.memoryUsage().arrayBuffers;
    const received = new Promise<number>((resolve) => {
      const mr = pair.pd.regMrSync(new Uint8Array(BIG), Access.LOCAL_WRITE);
      pair.server.qp.postRecv({ sges: [sge(mr)] }, resolve);
      if (close) void mr.close();
    });
    return { held: () => process.memoryUsage().arrayBuffers - before > BIG / 2, received };
  }

  it('is kept for the device, and let go after the completion', async () => {
    const { held, received } = orphanReceive(true);
    expect(await collectUntil(() => !held(), ROUNDS)).toBe(false);
    await sendPattern();
    expect(await received).toBe(WcStatus.SUCCESS);
    expect(await collectUntil(() => !held())).toBe(true);
  });

  it('is kept although its region has been collected without close', async () => {
    const warned = new Promise<Error>((resolve) => {
      process.once('warning', resolve);
    });
    const { held, received } = orphanReceive(false);
    expect(await collectUntil(() => !held(), ROUNDS)).toBe(false);
    expect((await warned).message).toMatch(/a memory region was garbage-collected without close/);
    await sendPattern();
    expect(await received).toBe(WcStatus.SUCCESS);
    expect(await collectUntil(() => !held())).toBe(true);
  });

  it('is kept until the queue pair is destroyed, when it is not retired before', async () => {
    const { held, received } = orphanReceive(true);
    expect(await collectUntil(() => !held(), ROUNDS)).toBe(false);
    pair.server.qp.close();
    expect(await received).toBe(WcStatus.WR_FLUSH_ERR);
    expect(await collectUntil(() => !held())).toBe(true);
  });

  it('is kept while READs fill it, although the program has dropped everything', async () => {
    const { addr: remoteAddr, rkey } = source.mr;
    const before = process.memoryUsage().arrayBuffers;
    const statuses: number[] = [];
    for (let i = 0; i < 32; i += 1) {
      const mr = pair.pd.regMrSync(new Uint8Array(SIZE), Access.LOCAL_WRITE);
      const read = { opcode: Opcode.RDMA_READ, sges: [sge(mr)], remoteAddr, rkey, flags: SendFlags.SIGNALED };
      pair.client.qp.postSend(read, (status) => statuses.push(status));
      void mr.close();
    }
    const allRead = () => statuses.length === 32 && process.memoryUsage().arrayBuffers - before < 16 * SIZE;
    expect(await collectUntil(allRead)).toBe(true);
    expect(new Set(statuses)).toEqual(new Set([WcStatus.SUCCESS]));
  });

  describe.each(moves)('given away by %s', (_, move) => {
    it('still receives, for its new owner', async () => {
      const bytes = new Uint8Array(SIZE);
      const mr = pair.pd.regMrSync(bytes, Access.LOCAL_WRITE);
      const received = pair.server.qp.recv({ sges: [sge(mr)] });
      const moved = await move(bytes.buffer);
      expect(bytes.byteLength).toBe(0);
      await sendPattern();
      expect((await received).byteLen).toBe(SIZE);
      expect(Buffer.from(moved).equals(pattern)).toBe(true);
      await mr.close();
    });

    it('is kept until the region is closed, although its new owner has been collected', async () => {
      const before = process.memoryUsage().arrayBuffers;
      const held = () => process.memoryUsage().arrayBuffers - before > BIG / 2;
      const bytes = new Uint8Array(BIG);
      const mr = pair.pd.regMrSync(bytes, Access.LOCAL_WRITE);
      const received = pair.server.qp.recv({ sges: [sge(mr)] });
      await (async () => void (await move(bytes.buffer)))();
      expect(await collectUntil(() => !held(), ROUNDS)).toBe(false);
      await sendPattern();
      await received;
      await mr.close();
      expect(await collectUntil(() => !held())).toBe(true);
    });
  });

  it('of WebAssembly may grow', async () => {
    const memory = new WasmMemory({ initial: 1, maximum: 10 });
    const mr = pair.pd.regMrSync(new Uint8Array(memory.buffer, 4096, SIZE), Access.LOCAL_WRITE);
    const received = pair.server.qp.recv({ sges: [sge(mr)] });
    memory.grow(3);
    await collectUntil(() => false, ROUNDS);
    await sendPattern();
    await received;
    expect(Buffer.from(memory.buffer, 4096, SIZE).equals(pattern)).toBe(true);
    await mr.close();
  });

  it.each([
    ['an ArrayBuffer', ArrayBuffer],
    ['a SharedArrayBuffer', SharedArrayBuffer],
  ])('cannot be %s that shrinks or grows', async (_, kind) => {
    const Resizable = kind as unknown as new (
      length: number,
      options: { maxByteLength: number },
    ) => ArrayBuffer;
    const buffer = new Resizable(4096, { maxByteLength: 1 << 20 });
    for (const memory of [buffer, new Uint8Array(buffer, 0, 100)]) {
      const error = await rdmaErrorOf(() => pair.pd.regMr(memory, Access.LOCAL_WRITE));
      expect(error.code).toBe('ERR_INVALID_ARG_VALUE');
      expect(error.message).toMatch(
        /memory lies in a resizable buffer: its pages can change under the device/,
      );
    }
  });

  it('of a slab is kept for its views after its registration has gone', async () => {
    const slab = await pair.pd.allocSlab(SIZE, Access.LOCAL_WRITE);
    const view = new Uint8Array(slab.buffer, 1, 100);
    const received = pair.server.qp.recv({ sges: [sge(slab.mr)] });
    const gone = slab.close();
    await sendPattern();
    await received;
    await gone;
    await collectUntil(() => false, ROUNDS);
    expect(pattern.subarray(1, 101).equals(view)).toBe(true);
  });

  it('of a slab is kept while the device fills it, although its views have been collected', async () => {
    const { mr } = await pair.pd.allocSlab(SIZE, Access.LOCAL_WRITE | Access.REMOTE_READ);
    const received = pair.server.qp.recv({ sges: [sge(mr)] });
    await collectUntil(() => false, ROUNDS);
    await sendPattern();
    await received;
    source.bytes.fill(0);
    const back = { opcode: Opcode.RDMA_READ, sges: [sge(source.mr)], remoteAddr: mr.addr, rkey: mr.rkey };
    await pair.client.qp.send(back);
    expect(source.bytes.equals(pattern)).toBe(true);
    await mr.close();
  });
});
