/** What pyverbs lacks: garbage collection, buffers that move, processes and threads. */
import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import { expect } from 'vitest';
import { Access, type MemoryRegion, Opcode, SendFlags } from '../../../lib/index.ts';
import { connectedPair, type Pair } from '../../device/helpers/pair.ts';
import { implement } from '../harness.ts';

const collectGarbage = (globalThis as { gc?: () => void }).gc!;
const MIB = 1 << 20;
const COUNT = 4;

/** Receives [COUNT] messages of one MiB: those of the byte 1, 2 … that the client sends. */
async function receive(pair: Pair): Promise<() => Promise<void>> {
  const arrived = await Promise.all(Array.from({ length: COUNT }, () => pair.memory(MIB)));
  const done = arrived.map(({ mr }) =>
    pair.server.qp.recv({ sges: [{ addr: mr.addr, length: MIB, lkey: mr.lkey }] }),
  );
  return async () => {
    await Promise.all(done);
    for (const [i, { bytes }] of arrived.entries()) {
      expect(bytes.equals(Buffer.alloc(MIB, i + 1))).toBe(true);
    }
  };
}

type Afterwards = (memory: ArrayBuffer, mr: MemoryRegion) => void;

/** Registers a MiB of [byte] and posts it; when it returns, only [afterwards] may still know the memory. */
async function post(pair: Pair, byte: number, afterwards: Afterwards): Promise<{ sent: Promise<number> }> {
  const memory = new ArrayBuffer(MIB);
  new Uint8Array(memory).fill(byte);
  const mr = await pair.pd.regMr(memory, Access.LOCAL_WRITE);
  const sges = [{ addr: mr.addr, length: MIB, lkey: mr.lkey }];
  const sent = new Promise<number>((resolve) => {
    pair.client.qp.postSend({ opcode: Opcode.SEND, sges, flags: SendFlags.SIGNALED }, resolve);
  });
  afterwards(memory, mr);
  return { sent };
}

/** Sends, lets [afterwards] and [meanwhile] pull the memory away, and checks what arrives. */
async function traffic(pair: Pair, afterwards: Afterwards, meanwhile: () => void): Promise<void> {
  const check = await receive(pair);
  for (let i = 0; i < COUNT; i += 1) {
    const { sent } = await post(pair, i + 1, afterwards);
    meanwhile();
    expect(await sent).toBe(0);
  }
  await check();
}

implement('beyond', 'Memory', {
  async collected_buffer({ name }) {
    await using pair = await connectedPair(name);
    const { mr } = await pair.memory(1);
    const litter = () => {
      collectGarbage();
      // Fresh memory where the old was, should that have been freed.
      for (let i = 0; i < 4; i += 1) Buffer.alloc(MIB, 0xee);
    };
    const listeners = process.listeners('warning');
    const warnings: string[] = [];
    process.removeAllListeners('warning').on('warning', ({ message }) => {
      warnings.push(message);
    });
    await traffic(pair, () => undefined, litter);
    const afterGarbage = () => {
      collectGarbage();
      return warnings.length;
    };
    await expect.poll(afterGarbage).toBe(COUNT);
    process.removeAllListeners('warning');
    for (const listener of listeners) process.on('warning', listener);
    expect(warnings[0]).toContain('a memory region was garbage-collected without close()');
    expect(mr.closed).toBe(false);
  },

  async closed_region({ name }) {
    await using pair = await connectedPair(name);
    const regions: Promise<void>[] = [];
    await traffic(
      pair,
      (_, mr) => {
        regions.push(mr.close());
        expect(mr.closed).toBe(true);
      },
      () => undefined,
    );
    await Promise.all(regions);
  },

  async detached_buffer({ name }) {
    await using pair = await connectedPair(name);
    await traffic(
      pair,
      (memory, mr) => {
        structuredClone(memory, { transfer: [memory] });
        expect(memory.byteLength).toBe(0);
        void mr.close();
      },
      collectGarbage,
    );
  },
});

const program = fileURLToPath(new URL('../../../dist/test/device/lifetime/program.js', import.meta.url));

implement('beyond', 'Processes', {
  async child_process({ name }) {
    await using pair = await connectedPair(name);
    const { bytes, mr } = await pair.memory(8192);
    const { bytes: source, mr: local } = await pair.memory(8192);
    for (let round = 1; round <= 4; round += 1) {
      source.fill(round);
      const write = {
        opcode: Opcode.RDMA_WRITE,
        sges: [{ addr: local.addr, length: 8192, lkey: local.lkey }],
        remoteAddr: mr.addr,
        rkey: mr.rkey,
      };
      const child = spawn('true');
      const ended = new Promise<number | null>((resolve, reject) => {
        child.on('exit', resolve).on('error', reject);
      });
      // The pages that the device writes to are the parent's: had fork(2) shared them, it would see the old ones.
      bytes.fill(0);
      await pair.client.qp.send(write);
      expect(await ended).toBe(0);
      await pair.client.qp.send(write);
      await expect.poll(() => bytes.equals(source)).toBe(true);
    }
  },

  async worker_threads({ name, host }) {
    await using pair = await connectedPair(name);
    const { mr } = await pair.memory(64);
    const { mr: target } = await pair.memory(64);
    const worker = new Worker(program, { workerData: ['run', name, host] });
    const failed = new Promise<never>((_, reject) => {
      worker.on('error', reject);
    });
    await Promise.race([new Promise((resolve) => worker.once('message', resolve)), failed]);
    expect(await worker.terminate()).toBe(1);
    const sges = [{ addr: mr.addr, length: 64, lkey: mr.lkey }];
    await pair.client.qp.send({
      opcode: Opcode.RDMA_WRITE,
      sges,
      remoteAddr: target.addr,
      rkey: target.rkey,
    });
  },
});
