/** Child processes of a process that has memory registered and work in flight. */
import { type ChildProcess, exec, execFile, execFileSync, fork, spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type MemoryRegion, Opcode } from '../../../lib/index.ts';
import { devices } from '../helpers/devices.ts';
import { connectedPair, type Pair } from '../helpers/pair.ts';

const SIZE = 64 * 1024;
const LIST = 'ls -l /proc/self/fd';

describe.each(devices)('child processes with live regions on $name', ({ name }) => {
  let pair: Pair;
  let local: { bytes: Buffer; mr: MemoryRegion };
  let remote: { bytes: Buffer; mr: MemoryRegion };
  beforeAll(async () => {
    pair = await connectedPair(name);
    local = await pair.memory(SIZE);
    remote = await pair.memory(SIZE);
  });
  afterAll(() => pair.close());

  const sge = (mr: MemoryRegion) => ({ addr: mr.addr, length: SIZE, lkey: mr.lkey });

  /** Moves fresh bytes both ways: pages that a fork made the child's would stay behind with the device. */
  async function dataIsRight(seed: number): Promise<void> {
    for (let i = 0; i < SIZE; i += 1) local.bytes[i] = i * 13 + seed;
    const received = pair.server.qp.recv({ sges: [sge(remote.mr)] });
    await pair.client.qp.send({ opcode: Opcode.SEND, sges: [sge(local.mr)] });
    await received;
    expect(remote.bytes.equals(local.bytes)).toBe(true);
    remote.bytes.reverse();
    const read = {
      opcode: Opcode.RDMA_READ,
      sges: [sge(local.mr)],
      remoteAddr: remote.mr.addr,
      rkey: remote.mr.rkey,
    };
    await pair.client.qp.send(read);
    expect(local.bytes.equals(remote.bytes)).toBe(true);
  }

  const sleeper = fileURLToPath(new URL('../../../dist/test/device/lifetime/sleeper.js', import.meta.url));
  const children: [how: string, start: () => ChildProcess][] = [
    ['spawn', () => spawn('sleep', ['60'])],
    ['spawn, detached', () => spawn('sleep', ['60'], { detached: true, stdio: 'ignore' })],
    ['exec', () => exec('exec sleep 60')],
    ['fork', () => fork(sleeper)],
  ];
  it.each(children)('move the right bytes while a child of %s lives, and after it', async (_, start) => {
    const received = pair.client.qp.recv({ sges: [sge(local.mr)] });
    const child = start();
    await once(child, 'spawn');
    // This receive was posted before the child came, and is met after it.
    remote.bytes.fill(0x5a);
    await pair.server.qp.send({ opcode: Opcode.SEND, sges: [sge(remote.mr)] });
    await received;
    expect(local.bytes.every((byte) => byte === 0x5a)).toBe(true);
    await dataIsRight(1);
    child.kill('SIGKILL');
    await once(child, 'exit');
    await dataIsRight(2);
  });

  it.each([
    ['execFile', async () => (await promisify(execFile)('sh', ['-c', LIST])).stdout],
    ['exec', async () => (await promisify(exec)(LIST)).stdout],
    ['execFileSync', async () => execFileSync('sh', ['-c', LIST], { encoding: 'utf8' })],
  ])('leave no descriptor to a child of %s', async (_, list) => {
    const slab = await pair.pd.allocSlab(4096, 1);
    const inherited = (await list())
      .split('\n')
      .filter((line) => /infiniband|rdma|memfd|event|netlink/.test(line));
    expect(inherited).toEqual([]);
    await slab.close();
  });
});
