import { setImmediate as turn } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Access, type Device, openDevice, type ProtectionDomain } from '../../../lib/index.ts';
import { devices } from '../helpers/devices.ts';
import { connectedPair } from '../helpers/pair.ts';
import { rdmaErrorOf } from '../helpers/rejection.ts';

describe.each(devices)('memory regions on $name', ({ name }) => {
  let device: Device;
  let pd: ProtectionDomain;

  beforeEach(() => {
    device = openDevice(name);
    pd = device.allocPd();
  });
  afterEach(() => device.close());

  it('registers exactly the viewed bytes', async () => {
    const bytes = Buffer.alloc(10_000);
    const whole = await pd.regMr(bytes, Access.LOCAL_WRITE);
    const part = await pd.regMr(bytes.subarray(100, 228), Access.LOCAL_WRITE);
    expect(whole.length).toBe(10_000);
    expect(part.length).toBe(128);
    expect(part.addr - whole.addr).toBe(100);
    expect(part.lkey).not.toBe(whole.lkey);
  });

  it.each([
    ['a Float64Array', () => new Float64Array(16), 128],
    ['a DataView', () => new DataView(new ArrayBuffer(64), 8, 40), 40],
    ['an ArrayBuffer', () => new ArrayBuffer(77), 77],
    ['a SharedArrayBuffer', () => new SharedArrayBuffer(4096), 4096],
  ])('registers %s', async (_, make, length) => {
    expect((await pd.regMr(make(), Access.LOCAL_WRITE)).length).toBe(length);
  });

  it('registers large memory off the event loop', async () => {
    let turns = 0;
    let done = false;
    const registering = pd.allocSlab(64 << 20, Access.LOCAL_WRITE).then((slab) => {
      done = true;
      return slab;
    });
    while (!done) {
      await turn();
      turns += 1;
    }
    const slab = await registering;
    // Made on the event loop, it would be done before the first turn.
    expect(turns).toBeGreaterThan(3);
    expect(slab.addr % 4096).toBe(0);
    expect(slab.buffer.byteLength).toBe(64 << 20);
  });

  it('keeps the pages of a slab while JavaScript has views of it', async () => {
    const slab = await pd.allocSlab(1 << 20, Access.LOCAL_WRITE);
    const view = new Uint8Array(slab.buffer, 5000, 10);
    await slab.close();
    view.fill(7);
    expect([...view]).toEqual(new Array(10).fill(7));
  });

  it('refuses detached memory', async () => {
    const buffer = new ArrayBuffer(64);
    structuredClone(buffer, { transfer: [buffer] });
    const error = await rdmaErrorOf(() => pd.regMr(buffer, Access.LOCAL_WRITE));
    expect(error.code).toBe('ERR_INVALID_ARG_VALUE');
    expect(error.message).toMatch(/memory lies in a detached buffer/);
  });

  it('refuses a view of detached memory', async () => {
    const view = new Uint8Array(64);
    structuredClone(view.buffer, { transfer: [view.buffer] });
    expect((await rdmaErrorOf(() => pd.regMr(view, Access.LOCAL_WRITE))).message).toMatch(/detached/);
  });

  it('refuses resizable memory', async () => {
    const Resizable = ArrayBuffer as unknown as new (length: number, options: object) => ArrayBuffer;
    const error = await rdmaErrorOf(() =>
      pd.regMr(new Resizable(64, { maxByteLength: 128 }), Access.LOCAL_WRITE),
    );
    expect(error.code).toBe('ERR_INVALID_ARG_VALUE');
    expect(error.message).toMatch(/resizable/);
  });

  it.each([[[1, 2, 3]], ['text'], [undefined], [{ byteLength: 8 }]])(
    'refuses %o as memory',
    async (memory) => {
      expect((await rdmaErrorOf(() => pd.regMr(memory as never, 1))).code).toBe('ERR_INVALID_ARG_TYPE');
    },
  );

  it('refuses empty memory', async () => {
    expect((await rdmaErrorOf(() => pd.regMr(Buffer.alloc(0), 1))).message).toMatch(/empty/);
  });

  it.each([
    [1 << 30, /flags that are not in Access/],
    [Access.REMOTE_WRITE, /LOCAL_WRITE/],
    [-1, /access must be an integer/],
    [undefined, /access must be a number/],
  ])('refuses access %o', async (access, text) => {
    expect((await rdmaErrorOf(() => pd.regMr(Buffer.alloc(8), access as number))).message).toMatch(text);
  });

  it('says which call the kernel refused, and why', async () => {
    // ON_DEMAND is for devices that have it; siw says so.
    const attempt = pd.regMr(Buffer.alloc(4096), Access.LOCAL_WRITE | Access.ON_DEMAND, { wholePages: true });
    if (name === 'siw0') {
      expect(await rdmaErrorOf(() => attempt)).toMatchObject({ code: 'EOPNOTSUPP', syscall: 'ibv_reg_mr' });
    } else {
      expect((await attempt).lkey).toBeGreaterThan(0);
    }
  });

  it('keeps a closed region until the work that uses it has been retired', async () => {
    const pair = await connectedPair(name);
    const { mr } = await pair.memory(4096);
    const order: string[] = [];
    pair.server.qp.postRecv({ sges: [{ addr: mr.addr, length: 4096, lkey: mr.lkey }] }, () =>
      order.push('retired'),
    );
    const gone = mr.close().then(() => order.push('gone'));
    // Its key is refused at once, although the registration still stands.
    const error = await rdmaErrorOf(() =>
      pair.server.qp.postRecv({ sges: [{ addr: mr.addr, length: 4096, lkey: mr.lkey }] }),
    );
    expect(error.message).toMatch(/no open memory region/);
    await turn();
    await turn();
    expect(order).toEqual([]);
    // The message still arrives in the closed region.
    await pair.client.qp.send({ opcode: 2, sges: [], inline: Buffer.from('late') });
    await gone;
    expect(order).toEqual(['retired', 'gone']);
    await pair.close();
  });
});
