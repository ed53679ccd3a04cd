import { execFile, spawn } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Access, type MemoryRegion } from '../../../../lib/index.ts';
import { devices } from '../../helpers/devices.ts';
import { connectedPair } from '../../helpers/pair.ts';
import { rdmaErrorOf } from '../../helpers/rejection.ts';

const ALL = Access.LOCAL_WRITE | Access.REMOTE_READ | Access.REMOTE_WRITE;

describe.each(devices)('rereg on $name, whose library does not have it', ({ name }) => {
  it.each([
    ['memory', () => ({ memory: Buffer.alloc(100) })],
    ['access', () => ({ access: Access.LOCAL_WRITE })],
    ['everything', () => ({ memory: Buffer.alloc(100), access: ALL })],
  ])('of %s is refused, and leaves the region as it was', async (_, change) => {
    const pair = await connectedPair(name);
    const { bytes, mr } = await pair.memory(64);
    const before = { ...pick(mr) };
    const error = await rdmaErrorOf(() => mr.rereg(change()));
    expect(error).toMatchObject({ code: 'EOPNOTSUPP', syscall: 'ibv_rereg_mr' });
    expect(error.message).toMatch(/the region is as it was/);
    expect(pick(mr)).toEqual(before);
    const received = pair.server.qp.recv({ sges: [{ addr: mr.addr, length: 64, lkey: mr.lkey }] });
    await pair.client.qp.send({ opcode: 2, sges: [], inline: Buffer.from('usable') });
    await received;
    expect(bytes.toString('latin1', 0, 6)).toBe('usable');
    const { bytes: sink, mr: sinkMr } = await pair.memory(64);
    const sges = [{ addr: sinkMr.addr, length: 64, lkey: sinkMr.lkey }];
    await pair.client.qp.send({ opcode: 4, sges, remoteAddr: mr.addr, rkey: mr.rkey });
    expect(sink.equals(bytes)).toBe(true);
    await pair.close();
  });

  it.each([
    [{}, /nothing to change/],
    [{ access: Access.REMOTE_WRITE }, /need LOCAL_WRITE/],
    [{ access: Access.ON_DEMAND }, /rereg can not change ON_DEMAND/],
    [{ memory: new Uint8Array(0) }, /memory is empty/],
    [{ memory: 'text' }, /memory must be a Buffer/],
  ])('refuses %o before the library is asked', async (change, text) => {
    const pair = await connectedPair(name);
    const { mr } = await pair.memory(64);
    const error = await rdmaErrorOf(() => mr.rereg(change as never));
    expect(error.code).toMatch(/^ERR_INVALID_ARG/);
    expect(error.message).toMatch(text);
    await pair.close();
  });
});

function pick({ addr, length, lkey, rkey, access, valid }: MemoryRegion) {
  return { addr, length, lkey, rkey, access, valid };
}

// No soft device reaches these outcomes with rdma-core 44: fake.c stands in for ibv_rereg_mr(3).
describe.each(devices)('rereg on $name, by a fake of ibv_rereg_mr', ({ name }) => {
  let directory: string;

  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), 'node-rdma-rereg-'));
    const source = fileURLToPath(new URL('./fake.c', import.meta.url));
    await promisify(execFile)('cc', [
      '-shared',
      '-fPIC',
      '-o',
      join(directory, 'fake.so'),
      source,
      '-libverbs',
    ]);
  });
  afterAll(() => rm(directory, { recursive: true }));

  function run(scenario: string, answer: number): Promise<{ code: number | null; out: string; err: string }> {
    const program = fileURLToPath(
      new URL('../../../../dist/test/device/verbs/rereg/program.js', import.meta.url),
    );
    const child = spawn(process.execPath, [program, name, scenario], {
      env: {
        ...process.env,
        // A sanitizer's runtime, where there is one, has to come first.
        LD_PRELOAD: [process.env.LD_PRELOAD, join(directory, 'fake.so')].filter(Boolean).join(' '),
        FAKE_REREG: String(answer),
        FAKE_REREG_MS: '100',
      },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let [out, err] = ['', ''];
    child.stdout.on('data', (data) => {
      out += data;
    });
    child.stderr.on('data', (data) => {
      err += data;
    });
    return new Promise((resolve) => {
      child.on('close', (code) => resolve({ code, out, err }));
    });
  }

  it.each([
    ['memory', 0],
    ['access', 0],
    ['pd', 0],
    ['unchanged', -1],
    ['unchanged', -2],
    ['changed-all-the-same', -3],
    ['invalid', -4],
    ['invalid', -5],
    ['busy', 0],
    ['meanwhile', 0],
    ['closed-meanwhile', 0],
    ['domain-closed-meanwhile', 0],
  ])('%s, when it answers %i', async (scenario, answer) => {
    expect(await run(scenario, answer)).toEqual({ code: 0, out: `passed: ${scenario}\n`, err: '' });
  });
});
