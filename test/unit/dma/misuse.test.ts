// What a mistake in a call to the most used functions comes to: an error that says which argument, and nothing else. On fakes.

import { describe, expect, it } from 'vitest';
import { DmaBatch } from '../../../lib/dma/batch.ts';
import { WcStatus } from '../../../lib/errors.ts';
import { RwContext } from '../../../lib/rw/rw-context.ts';
import { Access } from '../../../lib/verbs/constants.ts';
import { foreign } from './bytes.ts';
import { FakePd } from './fake-memory.ts';
import { FakeQp } from './fake-qp.ts';

async function setUp() {
  const pd = new FakePd();
  const peer = new FakePd();
  const qp = new FakeQp(pd, peer);
  const rw = new RwContext(qp);
  const block = await rw.builder.arena.alloc(8192);
  const far = await peer.regMr(
    new Uint8Array(8192),
    Access.LOCAL_WRITE | Access.REMOTE_WRITE | Access.REMOTE_READ,
  );
  return { pd, qp, rw, block, remote: { addr: far.addr, rkey: far.rkey } };
}

const invalid = (text: RegExp) => expect.objectContaining({ message: expect.stringMatching(text) });

describe('a mistake', () => {
  it('in where the peer has its memory is named, and nothing is posted', async () => {
    const { qp, rw, block, remote } = await setUp();
    for (const [wrong, got] of [
      [undefined, 'undefined'],
      [null, 'null'],
      [4096, 'number'],
    ] as const) {
      const why = invalid(new RegExp(`remote must be the peer's \\{ addr, rkey \\}, got ${got}`));
      expect(() => rw.read(block, wrong as never)).toThrow(why);
      expect(() => rw.write(block, wrong as never)).toThrow(why);
      expect(() => rw.fetchAdd(wrong as never, 1)).toThrow(why);
      expect(() => rw.compareAndSwap(wrong as never, 1, 2)).toThrow(why);
    }
    expect(() => rw.read(block, {} as never)).toThrow(/remote\.addr must be an address .*got undefined/);
    expect(qp.calls).toEqual([]);
    const good = rw.read(block, remote);
    qp.run();
    expect((await good).bytes).toBe(8192);
  });

  it('in what is one fragment, and not a list: the rest of it is not silently lost', async () => {
    const { rw, block } = await setUp();
    const { builder } = rw;
    const list = [block.bytes.subarray(0, 10), block.bytes.subarray(20, 30)];
    const batch = DmaBatch.start(builder, 'scatter', 'toDevice');
    for (const wrong of [list, new Set(list), 'text', undefined]) {
      expect(() => builder.mapSgeSingle(wrong as never)).toThrow(
        /^fragment must be a Buffer.*or DmabufFragment, got/,
      );
      expect(() => batch.add(wrong as never)).toThrow(/^fragment must be a Buffer/);
    }
    expect(batch.length).toBe(0);
    for (const fragment of list) expect(batch.add(fragment)).toBe(true);
    expect((await batch.finalize()).map(({ length }) => length)).toEqual([10, 10]);
    await batch.unmap();
    expect(builder.mapSgeSingle(list[1]!)).toEqual({ addr: block.addr + 20, length: 10, lkey: block.lkey });
    expect(() => builder.fillSgeFromFragments([list] as never)).toThrow(/fragments\[0\] must be .*got Array/);
    expect(builder.fillSgeFromFragments(list)).toHaveLength(2);
  });

  it('in the access of what is exposed', async () => {
    const { rw, block } = await setUp();
    for (const [access, said] of [
      [undefined, 'undefined'],
      ['read', 'read'],
      [0.5, '0.5'],
      [Access.LOCAL_WRITE, '0x1'],
    ] as const) {
      await expect(rw.builder.expose(block, access as number)).rejects.toThrow(
        `access ${said} gives a peer nothing`,
      );
    }
    const exposure = await rw.builder.expose(block, Access.REMOTE_READ);
    expect(exposure.descriptor.length).toBe(8192);
    await exposure.revoke();
  });

  it('in who starts a batch', async () => {
    const { rw } = await setUp();
    expect(() => DmaBatch.start(rw as never, 'linear', 'toDevice')).toThrow(
      /builder must be an SgeBuilder, such as RwContext.builder/,
    );
    DmaBatch.start(rw.builder, 'linear', 'toDevice').abort();
  });

  it('in the order of a mapping: retired twice, or of memory that was freed', async () => {
    const { rw, block } = await setUp();
    const view = block.bytes.subarray(0, 100);
    const mapping = rw.builder.tryMap('read', view)!;
    block.free();
    expect(() => block.free()).toThrow(/already freed/);
    mapping.retire(WcStatus.SUCCESS);
    mapping.retire(WcStatus.SUCCESS);
    for (const use of [
      () => rw.builder.tryMap('read', view),
      () => rw.send(view),
      () => rw.builder.map('write', [foreign(1), view]),
    ]) {
      expect(use).toThrow(/view of arena memory that was freed/);
    }
    await expect(rw.builder.expose(view, Access.REMOTE_READ)).rejects.toThrow(/memory that was freed/);
    expect(rw.builder.arena.stats.blocks).toBe(0);
    const again = await rw.builder.arena.alloc(8192);
    expect(rw.builder.mapSgeSingle(again).length).toBe(8192);
  });
});
