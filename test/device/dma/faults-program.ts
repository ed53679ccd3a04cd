/**
 * What a transfer does when the process has no more of something, as program.js scenario device; prints what happened, as JSON.
 * In a process of its own: others must not go short of it.
 */
import { readFileSync } from 'node:fs';
import {
  Access,
  Arena,
  DmaBatch,
  type DmaOp,
  defaultThresholds,
  type ForceStrategy,
  type Fragments,
  liveObjects,
  type MemoryRegion,
  RdmaError,
  RwContext,
} from '../../../lib/index.ts';
import { connectedPair, type Pair } from '../helpers/pair.ts';
import { processMemory } from '../lifetime/resources.ts';
import { pattern } from './memory.ts';

const KiB = 1024;
const MiB = 1024 * KiB;
const PAGE = 4096;
const REMOTE_BYTES = 1 * MiB;

const [scenario, name] = process.argv.slice(2) as ['locked' | 'mappings', 'rxe0' | 'siw0'];

/** How an operation ended: what it did, or its error. */
async function ended(action: () => Promise<unknown>): Promise<unknown> {
  try {
    return await action();
  } catch (error) {
    if (!(error instanceof RdmaError)) throw error;
    const { code, fragment, syscall, message } = error;
    return { code, fragment, syscall, message };
  }
}

class Stage {
  readonly pair: Pair;
  readonly rw: RwContext;
  readonly far: RwContext;
  readonly arena: Arena;
  readonly remote: { bytes: Buffer; mr: MemoryRegion };

  constructor(pair: Pair, remote: { bytes: Buffer; mr: MemoryRegion }) {
    this.pair = pair;
    this.remote = remote;
    // As on a card: copied is what has to be.
    this.rw = new RwContext(pair.client.qp, defaultThresholds.pinned);
    this.far = new RwContext(pair.server.qp);
    this.arena = Arena.for(pair.pd);
    remote.bytes.set(pattern(REMOTE_BYTES, 5));
  }

  get at() {
    return { addr: this.remote.mr.addr, rkey: this.remote.mr.rkey };
  }

  start(op: DmaOp, memory: Fragments, force?: ForceStrategy): Promise<unknown> {
    const options = force === undefined ? {} : { force };
    if (op === 'send') return this.rw.send(memory, options);
    if (op === 'recv') return this.rw.recv(memory, options);
    return this.rw[op as 'read' | 'write'](memory, this.at, options);
  }

  /** What is held, when everything that goes in the background has gone. */
  async held() {
    await this.rw.builder.idle();
    await this.rw.builder.cache.idle();
    return {
      pinned: processMemory('VmPin'),
      // Windows are kept for the next transfer.
      objects: liveObjects() - this.rw.builder.windows!.stats.windows,
      blocks: this.arena.stats.blocks,
      links: this.rw.builder.windows!.stats.links,
      inFlight: this.rw.builder.counters.inFlight,
      waiting: this.rw.waiting + this.rw.outstanding,
    };
  }

  /** Reads into [target], and says whether the bytes are right. */
  async reads(target: Uint8Array, force?: ForceStrategy) {
    const { strategy } = await this.rw.read(target, this.at, force === undefined ? {} : { force });
    return { strategy, right: Buffer.from(target).equals(this.remote.bytes.subarray(0, target.length)) };
  }
}

/** Registers until there is no page left that may be locked. */
async function eat(pair: Pair): Promise<MemoryRegion[]> {
  const eaten: MemoryRegion[] = [];
  for (const bytes of [256 * KiB, 64 * KiB, 16 * KiB, 1]) {
    for (;;) {
      try {
        eaten.push(await pair.pd.regMr(new Uint8Array(bytes), Access.LOCAL_WRITE));
      } catch (error) {
        if ((error as RdmaError).code !== 'ENOMEM') throw error;
        break;
      }
    }
  }
  return eaten;
}

async function locked(stage: Stage) {
  const { pair, rw, arena } = stage;
  const block = await arena.alloc(256 * KiB);
  const start = await stage.held();
  const report: Record<string, unknown> = { slab: arena.stats.reserved };

  // The third of four can not be registered: the others have been, or are on the way.
  const ops: DmaOp[] = ['send', 'recv', 'write', 'read'];
  for (const op of ops) {
    const memory = [100 * KiB, 100 * KiB, 10 * MiB, 100 * KiB].map((bytes) => new Uint8Array(bytes));
    report[`halfway ${op}`] = await ended(() => stage.start(op, memory, 'transientMr'));
    report[`unforced ${op}`] = await ended(() => stage.start(op, memory));
  }
  report['halfway expose'] = await ended(() =>
    rw.builder.expose([new Uint8Array(100 * KiB), new Uint8Array(10 * MiB)], Access.REMOTE_READ),
  );
  report['arena growth'] = await ended(() => arena.alloc(8 * MiB));
  report['after halfway'] = await stage.held();
  report['works after halfway'] = await stage.reads(new Uint8Array(300 * KiB), 'transientMr');

  // A region that nobody uses is given up for one that is needed.
  const cached = new Uint8Array(512 * KiB);
  const before = rw.builder.cache.stats.evictions;
  report.cached = await ended(() => rw.read(cached, stage.at, { reuse: true }));
  const eaten = await eat(pair);
  report.evicted = await stage.reads(new Uint8Array(400 * KiB), 'transientMr');
  report.evictions = rw.builder.cache.stats.evictions - before;

  await ended(() => rw.read(new Uint8Array(300 * KiB), stage.at, { reuse: true }));
  eaten.push(...(await eat(pair)));
  const roomy = [new Uint8Array(100 * KiB), new Uint8Array(100 * KiB)];
  report['exposed with room'] = await ended(async () => {
    const { descriptors, revoke } = await rw.builder.expose(roomy, Access.REMOTE_READ).then((exposure) => ({
      descriptors: exposure.descriptors,
      revoke: () => exposure.revoke(),
    }));
    await revoke();
    return { descriptors: descriptors.length };
  });

  // No page is left: foreign memory is copied, linear memory is refused where it has to be registered.
  eaten.push(...(await eat(pair)));
  report.copied = await stage.reads(new Uint8Array(300 * KiB));
  report['forced transientMr'] = await ended(() => stage.reads(new Uint8Array(300 * KiB), 'transientMr'));
  report['forced cachedMr'] = await ended(() => stage.reads(new Uint8Array(300 * KiB), 'cachedMr'));
  const pages = [0, 2, 4].map((page) => block.bytes.subarray(page * PAGE, (page + 1) * PAGE));
  report['exposed window'] = await ended(() => rw.builder.expose(pages, Access.REMOTE_READ));
  const batch = DmaBatch.start(rw.builder, 'linear', 'fromDevice');
  // Not from the start of a page, so that it needs a region of its own on rxe too.
  for (const part of [block.bytes.subarray(100, PAGE), ...pages.slice(1)]) batch.add(part);
  report.batch = await ended(async () => (await batch.finalize()).length);
  report['batch state'] = batch.state;
  for (const mr of eaten) await mr.close();
  report.end = await stage.held();
  report.works = await stage.reads(new Uint8Array(300 * KiB), 'transientMr');
  report.start = start;
  return report;
}

const mappings = () => readFileSync('/proc/self/maps', 'utf8').split('\n').length - 1;

/** Mappings until [left] are left, one for each page. */
async function fill(pair: Pair, left: number): Promise<() => Promise<void>> {
  const most = Number(readFileSync('/proc/sys/vm/max_map_count', 'utf8'));
  const slab = await pair.pd.allocSlab(64 * PAGE, Access.LOCAL_WRITE);
  const window = pair.pd.reserveWindow(2 ** 29);
  for (let page = 0; ; ) {
    const count = Math.min(4096, most - left - mappings());
    if (count <= 0) {
      return () => {
        window.close();
        return slab.close();
      };
    }
    window.link(
      Array.from({ length: count }, () => {
        // Neighbours in the window are none in the slab, or they would be one mapping.
        const slabOffset = ((page * 7) % 64) * PAGE;
        return { offset: page++ * PAGE, slab, slabOffset, length: PAGE };
      }),
    );
  }
}

async function outOfMappings(stage: Stage) {
  const { pair, rw, far, arena } = stage;
  const block = await arena.alloc(1 * MiB);
  const sink = await arena.alloc(1 * MiB);
  // 100 pieces of a page each, more than there are SGEs, and not neighbours.
  const pages = Array.from({ length: 100 }, (_, i) => block.bytes.subarray(2 * i * PAGE, (2 * i + 1) * PAGE));
  const bytes = pattern(100 * PAGE, 9);
  pages.forEach((page, i) => void page.set(bytes.subarray(i * PAGE, (i + 1) * PAGE)));
  const send = async (force?: ForceStrategy) => {
    const received = far.recv(sink);
    sink.bytes.fill(0);
    const sent = await ended(() => stage.start('send', pages, force));
    if (!Object.hasOwn(sent as object, 'code')) {
      await received;
      return { ...(sent as object), right: sink.bytes.subarray(0, bytes.length).equals(bytes) };
    }
    // The receive is still there: an empty message takes it.
    await rw.send([]);
    await received;
    return sent;
  };
  const report: Record<string, unknown> = { before: await send() };
  const start = await stage.held();
  const empty = await fill(pair, 60);
  const hogged = mappings();
  report['forced linear'] = await send('linear');
  report['chosen by itself'] = await send();
  const batch = DmaBatch.start(rw.builder, 'linear', 'toDevice');
  for (const page of pages) batch.add(page);
  report.batch = await ended(async () => (await batch.finalize()).length);
  report['batch state'] = batch.state;
  report.exposed = await ended(() => rw.builder.expose(pages, Access.REMOTE_READ));
  report['mappings more'] = Math.max(0, mappings() - hogged);
  report['while full'] = await stage.held();
  await empty();
  report.after = await send('linear');
  report.end = await stage.held();
  report.start = start;
  return report;
}

const pair = await connectedPair(name, { maxSendWr: 32, maxRecvWr: 8, maxSendSge: 4, maxRecvSge: 4 });
const stage = new Stage(pair, await pair.memory(REMOTE_BYTES));
console.log(JSON.stringify(await (scenario === 'locked' ? locked(stage) : outOfMappings(stage))));
await pair.close();
