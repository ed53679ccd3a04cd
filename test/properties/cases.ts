/** Random cases: a fragment list, an operation, and a way to ask for it. */
import fc from 'fast-check';
import { type ForceStrategy, forceStrategies } from '../../lib/dma/transfer.ts';
import { type FragmentSpec, forms, places } from './memory.ts';

const PAGE = 4096;
const KiB = 1024;
const MiB = 1024 * KiB;

/** How the list is handed over. */
export type ListForm = 'array' | 'frozen' | 'set' | 'generator';

/** A DmaBatch instead of a list. */
export interface BatchSpec {
  readonly mode: 'scatter' | 'linear';
  readonly maxVecs: number | undefined;
  readonly maxSeg: number | undefined;
  /** The operation is carried out once more, with other bytes. */
  readonly again: boolean;
}

/** The operations on fragment lists; atomics have eight bytes. */
export type ListOp = 'read' | 'write' | 'send' | 'recv';

export interface CaseSpec {
  readonly op: ListOp;
  readonly fragments: readonly FragmentSpec[];
  readonly list: ListForm;
  readonly batch: BatchSpec | undefined;
  readonly force: ForceStrategy | undefined;
  readonly reuse: boolean;
  /** Where the bytes start in the peer's memory. */
  readonly remoteOffset: number;
  /** Which bytes. */
  readonly payload: number;
  /** Of a receive: how much shorter the message is than the memory for it, in 1/256. */
  readonly short: number;
  /** Cached regions are given up afterwards, and nothing may be pinned then. */
  readonly clear: boolean;
}

/** Lengths around what matters: header sizes, cache lines, pages, the pool, bounceMax. */
function lengths(largest: number): fc.Arbitrary<number> {
  const below = (most: number) => fc.integer({ min: 0, max: Math.min(most, largest) });
  const near = fc
    .tuple(fc.constantFrom(8, 32, 64, 512, PAGE, 2 * PAGE, 64 * KiB), fc.integer({ min: -2, max: 2 }))
    .map(([size, by]) => Math.min(size + by, largest));
  return fc.oneof(
    { weight: 6, arbitrary: below(64) },
    { weight: 4, arbitrary: near },
    { weight: 4, arbitrary: below(5000) },
    { weight: 3, arbitrary: below(70_000) },
    { weight: 1, arbitrary: below(300_000) },
    { weight: 1, arbitrary: below(largest) },
  );
}

const gaps = fc.oneof(
  { weight: 3, arbitrary: fc.constant(0) },
  { weight: 4, arbitrary: fc.integer({ min: 1, max: 200 }) },
  { weight: 2, arbitrary: fc.integer({ min: 1, max: 2 * PAGE }) },
);

function anyFragment(largest: number): fc.Arbitrary<FragmentSpec> {
  return fc.record({
    place: fc.constantFrom(...places),
    form: fc.constantFrom(...forms),
    gap: gaps,
    paged: fc.boolean(),
    length: lengths(largest),
  });
}

/** Fragments whose pages join: of the arena, whole pages but for the first start and the last end. */
const pagedList: fc.Arbitrary<readonly FragmentSpec[]> = fc
  .record({
    sizes: fc.array(fc.integer({ min: 1, max: 12 }), { minLength: 2, maxLength: 24 }),
    gap: fc.integer({ min: 0, max: 2 }),
    head: fc.integer({ min: 0, max: PAGE - 1 }),
    tail: fc.integer({ min: 0, max: PAGE - 1 }),
    whole: fc.boolean(),
  })
  .map(({ sizes, gap, head, tail, whole }) =>
    sizes.map((pages, i): FragmentSpec => {
      const cut = whole ? 0 : i === 0 ? head : i === sizes.length - 1 ? tail : 0;
      const first = i === 0 && !whole;
      return {
        place: 'arena',
        form: 'Uint8Array',
        gap: first ? head : gap * PAGE,
        paged: !first,
        length: pages * PAGE - cut,
      };
    }),
  );

/** One in four. */
function sometimes<T>(arbitrary: fc.Arbitrary<T>): fc.Arbitrary<T | undefined> {
  return fc.oneof({ weight: 3, arbitrary: fc.constant(undefined) }, { weight: 1, arbitrary });
}

/** Keeps a list to [most] bytes in all: what is over is cut. */
function within(list: readonly FragmentSpec[], most: number): readonly FragmentSpec[] {
  let left = most;
  return list.map((fragment) => {
    const length = Math.min(fragment.length, left);
    left -= length;
    return { ...fragment, length };
  });
}

/** Cases of up to [most] bytes. */
export function anyCase(most = 16 * MiB): fc.Arbitrary<CaseSpec> {
  const some = fc.array(anyFragment(most), { maxLength: 10 });
  const many = fc.array(anyFragment(4 * PAGE), { minLength: 10, maxLength: 48 });
  const alike = fc
    .tuple(fc.constantFrom(...places), some)
    .map(([place, list]) => list.map((fragment) => ({ ...fragment, place })));
  return fc.record({
    op: fc.constantFrom<ListOp>('read', 'write', 'send', 'recv'),
    fragments: fc
      .oneof(
        { weight: 5, arbitrary: some },
        { weight: 2, arbitrary: alike },
        { weight: 2, arbitrary: many },
        { weight: 3, arbitrary: pagedList },
      )
      .map((list) => within(list, most)),
    list: fc.constantFrom<ListForm>('array', 'frozen', 'set', 'generator'),
    batch: sometimes(
      fc.record({
        mode: fc.constantFrom<BatchSpec['mode']>('scatter', 'linear'),
        maxVecs: fc.option(fc.integer({ min: 1, max: 12 }), { nil: undefined }),
        maxSeg: fc.option(fc.integer({ min: PAGE, max: 100_000 }), { nil: undefined }),
        again: fc.boolean(),
      }),
    ),
    force: sometimes(fc.constantFrom(...forceStrategies)),
    reuse: fc.boolean(),
    remoteOffset: fc.oneof(fc.constant(0), fc.integer({ min: 0, max: 2 * PAGE })),
    payload: fc.nat({ max: 0xffff }),
    short: fc.oneof(fc.constant(0), fc.integer({ min: 0, max: 255 })),
    clear: fc.boolean(),
  });
}
