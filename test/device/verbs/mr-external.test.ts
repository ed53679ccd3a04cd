import { spawn } from 'node:child_process';
import { open } from 'node:fs/promises';
import { setImmediate as turn } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { Access, addressOf, forkStatus, liveObjects, Opcode, openDevice } from '../../../lib/index.ts';
import { devices } from '../helpers/devices.ts';
import { connectedPair } from '../helpers/pair.ts';
import { rdmaErrorOf } from '../helpers/rejection.ts';

const ALL = Access.LOCAL_WRITE | Access.REMOTE_READ | Access.REMOTE_WRITE;

declare const gc: () => void;

async function collect(): Promise<void> {
  for (let i = 0; i < 5; i += 1) {
    gc();
    await turn();
  }
}

describe.each(devices)('memory by address on $name', ({ name }) => {
  it('carries data', async () => {
    const pair = await connectedPair(name);
    const memory = new Uint8Array(5000);
    const mr = await pair.pd.regMrFromAddress({
      address: BigInt(addressOf(memory)) + 1000n,
      length: 100,
      access: ALL,
      keep: memory,
    });
    expect(mr).toMatchObject({ addr: addressOf(memory) + 1000, length: 100 });
    const received = pair.server.qp.recv({ sges: [{ addr: mr.addr, length: 100, lkey: mr.lkey }] });
    await pair.client.qp.send({ opcode: Opcode.SEND, sges: [], inline: Buffer.from('outside') });
    await received;
    expect(Buffer.from(memory.subarray(1000, 1007)).toString()).toBe('outside');
    await mr.close();
    await pair.close();
  });

  it('holds what keeps the memory until the region has gone', async () => {
    using device = openDevice(name);
    const pd = device.allocPd();
    let held = true;
    const registry = new FinalizationRegistry(() => {
      held = false;
    });
    const memory = Buffer.alloc(8192);
    const register = () => {
      const keep = { what: 'a mapping' };
      registry.register(keep, 0);
      return pd.regMrFromAddress({ address: addressOf(memory), length: 8192, access: 0, keep });
    };
    const mr = await register();
    await collect();
    expect(held).toBe(true);
    await mr.close();
    await collect();
    expect(held).toBe(false);
  });

  it('says that nothing is mapped there', async () => {
    using device = openDevice(name);
    const pd = device.allocPd();
    const error = await rdmaErrorOf(() =>
      pd.regMrFromAddress({ address: 0x10_0000_0000_0000, length: 4096, access: Access.LOCAL_WRITE }),
    );
    expect(error.syscall).toBe('ibv_reg_mr');
    expect(['EFAULT', 'ENOMEM', 'EINVAL']).toContain(error.code);
  });

  it.each([
    [{ address: 0 }, /address must be an integer from 1/],
    [{ address: 'here' }, /address must be a number/],
    [{ length: 0 }, /length must be an integer from 1/],
    [{ address: 2 ** 53 - 1 }, /end beyond 2\^53/],
    [{ keep: 7 }, /keep must be an object/],
    [{ access: Access.REMOTE_WRITE }, /need LOCAL_WRITE/],
    [{ iova: 1 }, /has offset 1 in its page/],
  ])('refuses %o', async (change, text) => {
    using device = openDevice(name);
    const pd = device.allocPd();
    const range = { address: 0x1000, length: 64, access: 0, ...change };
    expect(() => pd.regMrFromAddress(range as never)).toThrow(text);
  });
});

describe.each(devices)('a dma-buf on $name', ({ name }) => {
  it('is refused: soft devices do not reach other devices', async () => {
    using device = openDevice(name);
    const pd = device.allocPd();
    const file = await open('/dev/null');
    const error = await rdmaErrorOf(() => pd.regDmabufMr({ fd: file.fd, length: 4096, access: ALL }));
    expect(error).toMatchObject({ code: 'EOPNOTSUPP', syscall: 'ibv_reg_dmabuf_mr' });
    expect(error.message).toMatch(/4096 bytes of dma-buf .* does not have this kind/);
    // The duplicate of the descriptor has been closed; the caller's has not.
    await file.stat();
    await file.close();
    const closed = await rdmaErrorOf(() => pd.regDmabufMr({ fd: 12_345, length: 4096, access: ALL }));
    expect(closed).toMatchObject({ code: 'EBADF', syscall: 'ibv_reg_dmabuf_mr' });
    expect(closed.message).toMatch(/fd 12345/);
  });

  it.each([
    [{ access: Access.ON_DEMAND }, /a region of a dma-buf can not have ON_DEMAND/],
    [{ access: ALL | Access.MW_BIND }, /can not have MW_BIND/],
    [{ access: Access.REMOTE_WRITE }, /need LOCAL_WRITE/],
    [{ offset: 100, iova: 8192 }, /iova 0x2000 has offset 0 in its page, offset 0x64 has 100/],
    [{ offset: -1 }, /offset must be an integer/],
    [{ length: 0 }, /length must be an integer/],
    [{ fd: -1 }, /fd must be an integer/],
  ])('is refused with %o', (change, text) => {
    using device = openDevice(name);
    const pd = device.allocPd();
    expect(() => pd.regDmabufMr({ fd: 0, length: 4096, access: 0, ...change })).toThrow(text);
  });
});

describe.each(devices)('a null region on $name', ({ name }) => {
  it('is refused: the device has none', async () => {
    using device = openDevice(name);
    const pd = device.allocPd();
    const before = liveObjects();
    const error = await rdmaErrorOf(() => pd.allocNullMr());
    expect(error).toMatchObject({ code: 'EOPNOTSUPP', syscall: 'ibv_alloc_null_mr' });
    expect(error.message).toMatch(new RegExp(`${name} has no null regions`));
    expect(liveObjects()).toBe(before);
  });
});

describe('fork', () => {
  it('needs no protection by libibverbs: the kernel copies pinned pages', async () => {
    expect(forkStatus()).toBe('unneeded');
  });

  it.each(devices)('leaves registered memory to the parent on $name', async ({ name }) => {
    const pair = await connectedPair(name);
    const { bytes, mr } = await pair.memory(4096);
    const child = spawn('sleep', ['0.2']);
    // Written after the fork: without protection these pages are no longer the device's.
    bytes.fill('after fork');
    const { bytes: sink, mr: sinkMr } = await pair.memory(4096);
    const sges = [{ addr: sinkMr.addr, length: 4096, lkey: sinkMr.lkey }];
    await pair.client.qp.send({ opcode: Opcode.RDMA_READ, sges, remoteAddr: mr.addr, rkey: mr.rkey });
    expect(sink.equals(bytes)).toBe(true);
    await new Promise((resolve) => child.on('close', resolve));
    await pair.close();
  });
});
