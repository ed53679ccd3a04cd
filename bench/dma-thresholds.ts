/**
 * Where one way to reach memory becomes cheaper than another, on this machine and for each device: copying against
 * registering (`bounceMax`), inline against copying (`inlineMax`), a chain of work requests against copying (`chainMax`).
 * They are options of SgeBuilder and RwContext; this prints what to set them to.
 *
 *   node dist/tools/softrdma/cli.js -- node dist/bench/dma-thresholds.js --device rxe0
 */
import { pathToFileURL } from 'node:url';
import { Command } from 'commander';
import { Access, CmId, type ForceStrategy, type Fragments, RwContext } from '../lib/index.ts';

/** What to measure. */
export interface ThresholdOptions {
  /** Names of devices. */
  readonly devices: readonly string[];
  /** Operations of each kind and size; their tenth percentiles are compared. */
  readonly rounds: number;
}

/** One size: times of the two ways, microseconds. */
export interface Sample {
  /** Bytes, or work requests. */
  readonly size: number;
  readonly first: number;
  readonly second: number;
}

/** Two ways compared over a range of sizes. */
export interface Comparison {
  readonly name: string;
  /** The option that their crossing is the value of, and its default. */
  readonly option: 'bounceMax' | 'keepMin' | 'inlineMax' | 'chainMax';
  readonly initial: number;
  readonly ways: readonly [ForceStrategy, ForceStrategy];
  readonly samples: readonly Sample[];
  /** Largest size up to which the first way is the cheaper one; 0: it never is. */
  readonly crossing: number;
}

const KiB = 1024;
const MOST = 4096 * KiB;
/** Pieces of the chain, and the distance between them. */
const PIECE = 256;

interface Bench {
  readonly rw: RwContext;
  readonly remote: { readonly addr: number; readonly rkey: number };
  close(): void;
}

async function connect(host: string): Promise<Bench> {
  const listener = new CmId();
  listener.bind({ host, port: 0 });
  listener.listen();
  const client = new CmId();
  await client.resolveAddr({ host, port: listener.localAddress!.port });
  await client.resolveRoute();
  const device = client.device!;
  const pd = device.allocPd();
  const cq = device.createCq();
  const access = Access.LOCAL_WRITE | Access.REMOTE_WRITE | Access.REMOTE_READ;
  const target = await pd.allocSlab(MOST, access);
  listener.once('connectRequest', (id) => {
    id.createQp({ pd, sendCq: cq });
    // A failed accept shows as the client's failed connect.
    id.accept().catch(() => {});
    client.once('close', () => id.close());
  });
  const maxInlineData = device.name.startsWith('siw') ? 80 : 512;
  const qp = client.createQp({ pd, sendCq: cq, maxSendWr: 128, maxSendSge: 1, maxInlineData });
  await client.connect();
  return {
    rw: new RwContext(qp),
    remote: { addr: target.addr, rkey: target.mr.rkey },
    close: () => {
      client.close();
      listener.close();
      cq.close();
      // Named here, so that it is not collected before.
      target.close().catch(() => {});
      pd.close();
    },
  };
}

/** What a tenth of [values] are below: what else goes on on a machine only makes operations slower. */
export function undisturbed(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 10)]!;
}

/** Largest size up to which the first way is cheaper in all samples but for single outliers. */
export function crossingOf(samples: readonly Sample[]): number {
  // The border with the fewest samples on its wrong side.
  let best = { size: 0, wrong: Number.POSITIVE_INFINITY };
  for (let border = 0; border <= samples.length; border++) {
    const wrong = samples.filter(({ first, second }, i) =>
      i < border ? first > second : first < second,
    ).length;
    if (wrong < best.wrong) best = { size: border === 0 ? 0 : samples[border - 1]!.size, wrong };
  }
  return best.size;
}

const powers = (from: number, to: number): number[] => {
  const sizes: number[] = [];
  for (let size = from; size <= to; size *= 2) sizes.push(size);
  return sizes;
};

async function measure(
  { rw, remote }: Bench,
  op: 'write' | 'read',
  force: ForceStrategy,
  fragments: Fragments,
): Promise<number> {
  const start = performance.now();
  await rw[op](fragments, remote, { force });
  // Deregistering is part of the price.
  await rw.builder.idle();
  return (performance.now() - start) * 1000;
}

async function compare(
  bench: Bench,
  op: 'write' | 'read',
  what: Pick<Comparison, 'name' | 'option' | 'initial' | 'ways'>,
  sizes: readonly number[],
  memory: (size: number) => Fragments,
  rounds: number,
): Promise<Comparison> {
  const samples: Sample[] = [];
  for (const size of sizes) {
    const times: [number[], number[]] = [[], []];
    const fragments = memory(size);
    // In turns, so that what else goes on meets both; the first round warms up.
    for (let round = 0; round <= rounds; round++) {
      for (const way of [0, 1] as const) {
        const time = await measure(bench, op, what.ways[way], fragments);
        if (round > 0) times[way].push(time);
      }
    }
    samples.push({ size, first: undisturbed(times[0]), second: undisturbed(times[1]) });
  }
  return { ...what, samples, crossing: crossingOf(samples) };
}

/** Measures [name], a device that is reached at [host]. */
export async function measureDevice(host: string, rounds: number): Promise<Comparison[]> {
  const bench = await connect(host);
  const { rw } = bench;
  const { thresholds } = rw.builder;
  const found: Comparison[] = [];
  // Larger than a pool slice, so that any part of it counts as memory that could be registered.
  const foreign = new Uint8Array(MOST);
  const block = await rw.builder.arena.alloc(64 * 2 * PIECE);
  try {
    for (const op of ['write', 'read'] as const) {
      const what = {
        name: `${op}: copied against registered, bytes`,
        option: 'bounceMax',
        initial: thresholds.bounceMax,
        ways: ['bounce', 'transientMr'],
      } as const;
      const memory = (size: number): Fragments => foreign.subarray(0, size);
      found.push(await compare(bench, op, what, powers(4 * KiB, MOST), memory, rounds));
    }
    // Buffers of just these sizes, each registered already: what every use but the first costs.
    const kept = {
      name: 'write: copied against a region of the cache, bytes',
      option: 'keepMin',
      initial: thresholds.keepMin,
      ways: ['bounce', 'cachedMr'],
    } as const;
    const whole = (size: number): Fragments => new Uint8Array(size);
    found.push(await compare(bench, 'write', kept, powers(4 * KiB, MOST), whole, rounds));
    const { maxInlineData } = rw.builder.limits;
    const inline = {
      name: 'write: inline against copied, bytes',
      option: 'inlineMax',
      initial: thresholds.inlineMax,
      ways: ['inline', 'bounce'],
    } as const;
    const small = (size: number): Fragments => foreign.subarray(0, size);
    const sizes = [...powers(8, maxInlineData - 1), maxInlineData];
    found.push(await compare(bench, 'write', inline, sizes, small, rounds));
    const chain = {
      name: `write: a chain against copied, work requests of ${PIECE} bytes`,
      option: 'chainMax',
      initial: thresholds.chainMax,
      ways: ['chain', 'bounce'],
    } as const;
    const pieces = (count: number): Fragments =>
      Array.from({ length: count }, (_, i) => block.bytes.subarray(2 * i * PIECE, (2 * i + 1) * PIECE));
    found.push(await compare(bench, 'write', chain, powers(2, 64), pieces, rounds));
  } finally {
    block.free();
    bench.close();
  }
  return found;
}

function print(device: string, comparisons: readonly Comparison[]): void {
  for (const { name, option, initial, ways, samples, crossing } of comparisons) {
    console.log(`\n${device}, ${name} (tenth percentiles, microseconds)`);
    for (const { size, first, second } of samples) {
      const columns = [first, second].map((time, i) => `${ways[i]} ${time.toFixed(1).padStart(9)}`);
      console.log(`  ${String(size).padStart(8)}  ${columns.join('   ')}`);
    }
    const last = samples[samples.length - 1]!.size;
    const verdict =
      crossing === 0 ? `${ways[0]} is never cheaper` : `${ways[0]} is cheaper up to ${crossing}`;
    const beyond = crossing === last ? ', the largest measured' : '';
    console.log(`  ${verdict}${beyond}; ${option} is ${initial} by default`);
  }
}

function hostOf(device: string): string {
  return device.startsWith('siw')
    ? (process.env.RDMA_SIW_ADDR ?? '10.0.2.1')
    : (process.env.RDMA_RXE_ADDR ?? '10.0.1.1');
}

/** Measures and prints. */
export async function run({ devices, rounds }: ThresholdOptions): Promise<void> {
  for (const device of devices) print(device, await measureDevice(hostOf(device), rounds));
}

if (process.argv[1] !== undefined && import.meta.url === pathToFileURL(process.argv[1]).href) {
  await new Command('dma-thresholds')
    .description('Where copying, registering, inline data and chains of work requests cross.')
    .option('--device <names...>', 'RDMA devices', ['rxe0', 'siw0'])
    .option('--rounds <n>', 'operations of each kind and size', '31')
    .action(({ device, rounds }: { device: string[]; rounds: string }) =>
      run({ devices: device, rounds: Number(rounds) }),
    )
    .parseAsync();
}
