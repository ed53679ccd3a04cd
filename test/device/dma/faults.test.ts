// Whatever fails, everything is undone or settled, the error names the fragment, and what comes later works.

import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import {
  Access,
  Arena,
  CmId,
  defaultThresholds,
  liveObjects,
  type MemoryRegion,
  Opcode,
  type QueuePair,
  RdmaError,
  RwContext,
  SendFlags,
} from '../../../lib/index.ts';
import { devices } from '../helpers/devices.ts';
import { connectedPair, type Pair } from '../helpers/pair.ts';
import { rdmaErrorOf } from '../helpers/rejection.ts';
import { HANG_MS } from '../lifetime/run.ts';
import { pattern } from './memory.ts';

const KiB = 1024;
const PAGE = 4096;
const REMOTE_BYTES = 512 * KiB;
const program = fileURLToPath(new URL('../../../dist/test/device/dma/faults-program.js', import.meta.url));

type Report = Record<string, Record<string, unknown> | undefined>;

/** What faults-program.ts says; [wrapper] is the command that runs it, with [env] more in its environment. */
async function report(
  scenario: string,
  name: string,
  wrapper: readonly string[] = [],
  env: NodeJS.ProcessEnv = {},
): Promise<Report> {
  const [file, ...args] = [...wrapper, process.execPath, '--expose-gc', program, scenario, name];
  const { stdout } = await promisify(execFile)(file!, args, {
    timeout: HANG_MS,
    env: { ...process.env, ...env },
  });
  return JSON.parse(stdout) as Report;
}

describe.each(devices)('a process that may lock no more memory on $name', ({ name }) => {
  it(
    'undoes what it began, names the fragment, gives up idle regions, copies, and goes on',
    async () => {
      // Root may lock what it likes unless it lacks the capability.
      const said = await report('locked', name, [
        'prlimit',
        `--memlock=${4 << 20}`,
        'setpriv',
        '--bounding-set=-ipc_lock',
        '--inh-caps=-ipc_lock',
      ]);
      expect(said.slab).toBe(1 << 20);
      for (const op of ['send', 'recv', 'write', 'read']) {
        for (const way of ['halfway', 'unforced']) {
          const error = said[`${way} ${op}`];
          expect(error, `${way} ${op}`).toMatchObject({ code: 'ENOMEM', fragment: 2, syscall: 'ibv_reg_mr' });
          expect(error!.message).toMatch(
            /^fragment 2 \(10485760 bytes\) could not be mapped: ibv_reg_mr ENOMEM/,
          );
          expect(error!.message).toMatch(/RLIMIT_MEMLOCK\) is 4194304 bytes, pinned are \d+ kB: raise it/);
        }
      }
      expect(said['halfway expose']).toMatchObject({ code: 'ENOMEM', fragment: 1 });
      expect(said['arena growth']).toMatchObject({ code: 'ENOMEM', syscall: 'ibv_reg_mr' });
      expect(said['after halfway']).toEqual(said.start);
      expect(said.start).toMatchObject({ blocks: 1, links: 0, inFlight: 0, waiting: 0 });
      expect(said['works after halfway']).toEqual({ strategy: 'transientMr', right: true });

      expect(said.cached).toEqual({ bytes: 512 * KiB, strategy: 'cachedMr' });
      expect(said.evicted).toEqual({ strategy: 'transientMr', right: true });
      expect(said.evictions).toBe(1);
      expect(said['exposed with room']).toEqual({ descriptors: 2 });

      expect(said.copied).toEqual({ strategy: 'bounce', right: true });
      for (const force of ['transientMr', 'cachedMr']) {
        expect(said[`forced ${force}`]).toMatchObject({ code: 'ENOMEM', fragment: 0, syscall: 'ibv_reg_mr' });
      }
      for (const linear of ['exposed window', 'batch']) {
        expect(said[linear]).toMatchObject({ code: 'ENOMEM', fragment: 0, syscall: 'ibv_reg_mr' });
        expect(said[linear]!.message).toMatch(/^fragments 0 to 2 \(\d+ bytes\) could not be mapped/);
      }
      expect(said['batch state']).toBe('failed');
      expect(said.end).toEqual(said.start);
      expect(said.works).toEqual({ strategy: 'transientMr', right: true });
    },
    HANG_MS,
  );
});

describe.each(devices)('a process that may have hardly more mappings on $name', ({ name }) => {
  it(
    'unlinks what it linked, says so where linear is forced, and copies where it is not',
    async () => {
      // A sanitizer would be the first to miss them.
      const said = await report('mappings', name, [], { LD_PRELOAD: undefined, NODE_RDMA_ADDON: undefined });
      expect(said.before).toEqual({ bytes: 100 * PAGE, strategy: 'linear', right: true });
      for (const linear of ['forced linear', 'batch', 'exposed']) {
        expect(said[linear]).toMatchObject({ code: 'ENOMEM', fragment: 0, syscall: 'mmap' });
        // Some had been linked before the one that was too many.
        expect(said[linear]!.message).toMatch(/^fragments 0 to 99 .*: link [1-9]\d: .*vm\.max_map_count/);
      }
      expect(said['batch state']).toBe('failed');
      expect(said['chosen by itself']).toEqual({ bytes: 100 * PAGE, strategy: 'bounce', right: true });
      // Those of the links have gone again; V8 may have made some of its own.
      expect(said['mappings more']).toBeLessThan(40);
      expect(said['while full']).toMatchObject({ links: 0, inFlight: 0, waiting: 0 });
      expect(said.after).toEqual({ bytes: 100 * PAGE, strategy: 'linear', right: true });
      expect(said.end).toEqual(said.start);
    },
    HANG_MS,
  );
});

describe.each(devices)('faults on $name', ({ name, host }) => {
  let pair: Pair;
  let rw: RwContext;
  let remote: { bytes: Buffer; mr: MemoryRegion };
  const at = (offset = 0) => ({ addr: remote.mr.addr + offset, rkey: remote.mr.rkey });

  beforeEach(async () => {
    pair = await connectedPair(name, { maxSendWr: 8, maxRecvWr: 8, maxSendSge: 1 });
    // As on a card, which registers where these devices would copy.
    rw = new RwContext(pair.client.qp, defaultThresholds.pinned);
    remote = await pair.memory(REMOTE_BYTES);
    remote.bytes.set(pattern(REMOTE_BYTES, 23));
  });
  afterEach(() => pair.close());

  /** A second connection of the same protection domain, whose arena and cache it shares. */
  async function again(): Promise<{ qp: QueuePair; close(): void }> {
    const { pd, clientCq, serverCq, listener } = pair;
    const accepted = new Promise<CmId>((resolve, reject) => {
      listener.once('connectRequest', (id) => {
        id.createQp({ pd, sendCq: serverCq });
        id.accept().then(() => resolve(id), reject);
      });
    });
    const client = new CmId();
    await client.resolveAddr({ host, port: listener.localAddress!.port });
    await client.resolveRoute();
    client.createQp({ pd, sendCq: clientCq });
    const [, server] = await Promise.all([client.connect(), accepted]);
    return {
      qp: client.qp!,
      close: () => {
        client.close();
        server.close();
      },
    };
  }

  it('a full queue: one large operation among many small ones has its turn, and so have they', async () => {
    const { maxSendWr } = pair.client.qp.caps;
    const block = await Arena.for(pair.pd).alloc(256 * KiB);
    const done: string[] = [];
    const track = (label: string, work: Promise<unknown>) => work.then(() => void done.push(label));
    const work: Promise<void>[] = [];
    const small = (i: number) => {
      const target = block.bytes.subarray(i * 300, i * 300 + 200);
      target.fill(0);
      return rw.read(target, at(i * 100), { force: 'single' });
    };
    const allParts = Array.from({ length: maxSendWr + 1 }, (_, i) =>
      block.bytes.subarray(100_000 + i * 2000, 100_000 + i * 2000 + 1500),
    );
    const tooMany = await rdmaErrorOf(() => rw.write(allParts, at(), { force: 'chain' }));
    expect(tooMany.message).toMatch(/needs \d+ work requests.* the send queue has \d+/);
    // As many as the queue has slots.
    const largeParts = allParts.slice(0, maxSendWr);
    largeParts.forEach((part, i) => void part.fill(i + 1));
    for (let i = 0; i < 30; i++) work.push(track(`small ${i}`, small(i)));
    work.push(track('large', rw.write(largeParts, at(400 * KiB), { force: 'chain' })));
    for (let i = 30; i < 100; i++) work.push(track(`small ${i}`, small(i)));
    expect(rw.waiting).toBeGreaterThan(80);
    await Promise.all(work);
    const expected = Array.from({ length: 100 }, (_, i) => `small ${i}`);
    expected.splice(30, 0, 'large');
    expect(done).toEqual(expected);
    for (let i = 0; i < 100; i++) {
      const bytes = block.bytes.subarray(i * 300, i * 300 + 200);
      expect(bytes.equals(remote.bytes.subarray(i * 100, i * 100 + 200)), `small ${i}`).toBe(true);
    }
    await rw.read(new Uint8Array(1), at());
    const landed = remote.bytes.subarray(400 * KiB, 400 * KiB + largeParts.length * 1500);
    expect(landed.equals(Buffer.concat(largeParts))).toBe(true);
    expect(rw.waiting + rw.outstanding).toBe(0);
    block.free();
  });

  it("a queue full of somebody else's work: waits until there is room", async () => {
    const { qp } = pair.client;
    const source = await pair.memory(64);
    const raw = {
      opcode: Opcode.RDMA_WRITE,
      sges: [{ addr: source.mr.addr, length: 64, lkey: source.mr.lkey }],
      remoteAddr: remote.mr.addr,
      rkey: remote.mr.rkey,
    } as const;
    const count = qp.caps.maxSendWr - 1;
    qp.postSend(Array.from({ length: count }, () => raw));
    const block = await Arena.for(pair.pd).alloc(8 * KiB);
    let settled = false;
    const write = rw
      .write(
        [0, 1, 2].map((i) => block.bytes.subarray(i * 2000, i * 2000 + 1000)),
        at(4096),
        { force: 'chain' },
      )
      .finally(() => {
        settled = true;
      });
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(settled).toBe(false);
    expect(rw.waiting).toBe(1);
    // A signalled one behind the others gives their slots back.
    qp.postSend({ ...raw, flags: SendFlags.SIGNALED });
    expect(await write).toEqual({ bytes: 3000, strategy: 'chain' });
    block.free();
  });

  it('a queue pair in ERR: what is posted, waits, or comes later ends with a flush, and all is let go of', async () => {
    const { cache } = rw.builder;
    const arena = Arena.for(pair.pd);
    const kept = new Uint8Array(100 * KiB);
    await rw.read(kept, at(), { reuse: true });
    await rw.read(new Uint8Array(1000), at());
    await rw.builder.idle();
    const objects = liveObjects();
    const { blocks } = arena.stats;
    const pages = (await arena.alloc(64 * KiB)).bytes;
    const work = [
      rw.recv(new Uint8Array(100)),
      rw.recv(new Uint8Array(100 * KiB)),
      ...Array.from({ length: 20 }, () => rw.read(new Uint8Array(1000), at())),
      rw.write(kept, at()),
      rw.write(new Uint8Array(100 * KiB), at()),
      rw.send(
        [0, 2, 4].map((page) => pages.subarray(page * PAGE, (page + 1) * PAGE)),
        { force: 'linear' },
      ),
    ];
    pair.client.qp.toError();
    const results = await Promise.allSettled(work);
    const flushed = results.filter(
      (result) => result.status === 'rejected' && result.reason.code === 'ERR_RDMA_WC_WR_FLUSH_ERR',
    );
    // A few may have been carried out before.
    expect(results.filter(({ status }) => status === 'rejected').length).toBe(flushed.length);
    expect(flushed.length).toBeGreaterThan(10);
    for (const late of [
      () => rw.read(new Uint8Array(1000), at()),
      () => rw.write(new Uint8Array(100 * KiB), at()),
      () => rw.send(new Uint8Array(10)),
      () => rw.recv(new Uint8Array(10)),
      // A context that has not seen anything fail.
      () => new RwContext(pair.client.qp).write(new Uint8Array(1000), at()),
    ]) {
      expect((await rdmaErrorOf(late)).code).toMatch(/^ERR_RDMA_(WC_WR_FLUSH_ERR|CLOSED)$/);
    }
    await rw.builder.idle();
    expect(rw.builder.counters.inFlight).toBe(0);
    expect(rw.waiting + rw.outstanding).toBe(0);
    expect(cache.stats.inFlight).toBe(0);
    expect(rw.builder.windows!.stats.links).toBe(0);
    expect(arena.stats.blocks).toBe(blocks + 1);
    const extra = rw.builder.windows!.stats.windows * 2 + (cache.stats.entries - 1);
    expect(liveObjects() - objects).toBeLessThanOrEqual(extra);

    const fresh = await again();
    const next = new RwContext(fresh.qp, defaultThresholds.pinned);
    const target = new Uint8Array(100 * KiB);
    expect(await next.read(target, at())).toEqual({ bytes: 100 * KiB, strategy: 'transientMr' });
    expect(Buffer.from(target).equals(remote.bytes.subarray(0, 100 * KiB))).toBe(true);
    expect((await next.read(kept, at())).strategy).toBe('single');
    fresh.close();
  });

  it('a key that goes while its operation waits: only that operation fails, and says which fragment', async () => {
    const doomed = new Arena(pair.pd, { slabBytes: 64 * KiB });
    const lost = await doomed.alloc(8 * KiB);
    const kept = await Arena.for(pair.pd).alloc(8 * KiB);
    const fill = Array.from({ length: 30 }, () => rw.read(new Uint8Array(1000), at()));
    const parts = [kept.bytes.subarray(0, 100), kept.bytes.subarray(200, 300), lost.bytes.subarray(0, 100)];
    const write = rw.write(parts, at(8192), { force: 'chain' });
    const behind = rw.read(new Uint8Array(2000), at());
    // No user can do this to an arena in use; a device that loses a region would look the same.
    const closing = lost.slab.memory.close();
    const error = await rdmaErrorOf(() => write);
    expect(error).toMatchObject({ code: 'ERR_INVALID_ARG_VALUE', posted: 0, wrIndex: 2, fragment: 2 });
    expect(error.message).toMatch(
      /^write of 300 bytes \(chain\): .*lkey 0x[0-9a-f]+ is of no open memory region/,
    );
    await Promise.all([...fill, behind, closing]);
    expect(rw.builder.counters).toMatchObject({ inFlight: 0, failed: 1 });
    expect(rw.waiting + rw.outstanding).toBe(0);
    expect(await rw.write(parts.slice(0, 2), at(8192))).toMatchObject({ bytes: 200 });
    lost.free();
    kept.free();
  });

  it('memory that cannot be used is refused with its index before anything is held', async () => {
    const arena = Arena.for(pair.pd);
    const good = await arena.alloc(100);
    const freed = await arena.alloc(100);
    const stale = freed.bytes;
    freed.free();
    const detached = new Uint8Array(10);
    structuredClone(detached.buffer, { transfer: [detached.buffer] });
    for (const [bad, text] of [
      [freed, /fragment 1 is an ArenaBuffer that was freed/],
      [stale, /fragment 1 is a view of arena memory that was freed/],
      [detached, /fragment 1 is detached/],
      ['text', /fragments\[1\] must be a Buffer/],
    ] as const) {
      const error = await rdmaErrorOf(() => rw.write([good, bad as Uint8Array], at()));
      expect(error.message).toMatch(text);
      expect(error.fragment).toBe(1);
      const exposing = await rdmaErrorOf(() =>
        rw.builder.expose([good, bad as Uint8Array], Access.REMOTE_READ),
      );
      expect(exposing.fragment).toBe(1);
    }
    expect(arena.stats.blocks).toBe(1);
    good.free();
    expect(arena.stats.blocks).toBe(0);
    expect(RdmaError.prototype).toBeInstanceOf(Error);
  });
});
