import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { MAX_KEY_BYTES, MAX_VALUE_BYTES } from '../../../examples/kv/layout.ts';
import { MAX_ATTEMPTS, type Reader, readerCounters } from '../../../examples/kv/reader.ts';
import { Store } from '../../../examples/kv/store.ts';
import { getBy, type ReadOrder, readerOf } from './kv-memory.ts';

const KEYS = 20;
const keyOf = (index: number): Buffer => Buffer.from(`key ${index}`);

function put(store: Store, key: Buffer, value: Buffer): void {
  store.publish(store.prepare(key, value));
}

/** A store, what should be in it, and every value that each key had since {@link watch}. */
class Watched {
  readonly store: Store;
  readonly model = new Map<number, Buffer>();
  #key = -1;
  #seen: (Buffer | undefined)[] = [];

  constructor(store: Store) {
    this.store = store;
  }

  watch(key: number): void {
    this.#key = key;
    this.#seen = [this.model.get(key)];
  }

  sawAny(value: Buffer | undefined): boolean {
    return this.#seen.some((seen) => (seen === undefined ? value === undefined : value?.equals(seen)));
  }

  change({ key, value }: Change): void {
    if (value === undefined) {
      expect(this.store.delete(keyOf(key))).toBe(this.model.delete(key));
    } else {
      put(this.store, keyOf(key), value);
      this.model.set(key, value);
    }
    if (key === this.#key) this.#seen.push(value);
  }
}

interface Change {
  readonly key: number;
  readonly value: Buffer | undefined;
}

const change: fc.Arbitrary<Change> = fc.record({
  key: fc.nat({ max: KEYS - 1 }),
  value: fc.option(
    fc.tuple(fc.nat({ max: 600 }), fc.nat({ max: 255 })).map(([size, fill]) => Buffer.alloc(size, fill)),
    { nil: undefined, freq: 5 },
  ),
});

describe('the store', () => {
  it('holds what was put last, in every reader, through growing tables and full buckets', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(change, { maxLength: 150 }), async (changes) => {
        const watched = new Watched(new Store({ memoryBytes: 64 * 1024, buckets: 1 }));
        const { store, model } = watched;
        let reader = readerOf(store);
        const renew = () => {
          reader = readerOf(store);
          return reader;
        };
        for (const one of changes) {
          watched.change(one);
          const key = keyOf(one.key);
          expect(await getBy(store, reader, renew, key)).toEqual(one.value);
          expect(store.get(key)?.value).toEqual(one.value);
        }
        for (let index = 0; index < KEYS; index++) {
          expect(await getBy(store, reader, renew, keyOf(index))).toEqual(model.get(index));
        }
        expect(store.keys().map(String)).toEqual([...model.keys()].map((index) => `key ${index}`).sort());
        for (const index of model.keys()) store.delete(keyOf(index));
        expect(store.stats).toMatchObject({ keys: 0, freeBytes: 64 * 1024, overflowed: 0 });
      }),
      { numRuns: 30 },
    );
  });

  it.each(['upwards', 'in any order'])(
    'gives a reader a value that the key had meanwhile, whatever is written between the pieces of a READ %s',
    async (way) => {
      const run = fc.record({
        before: fc.array(change, { maxLength: 40 }),
        gets: fc.array(fc.nat({ max: 5 }), { minLength: 1, maxLength: 30 }),
        between: fc.infiniteStream(fc.option(change, { nil: undefined, freq: 2 })),
        piece: fc.constantFrom(4, 16, 64, 256),
        swaps: fc.infiniteStream(fc.nat({ max: 1000 })),
      });
      const counters = readerCounters();
      await fc.assert(
        fc.asyncProperty(run, async ({ before, gets, between, piece, swaps }) => {
          // Little memory, so that what is freed is used again at once.
          const watched = new Watched(new Store({ memoryBytes: 32 * 1024, buckets: 2 }));
          for (const one of before) watched.change(one);
          const order: ReadOrder = {
            piece,
            between: () => {
              const { value: one } = between.next();
              if (one !== undefined) watched.change(one);
            },
            ...(way === 'upwards' ? {} : { order: (pieces: number) => shuffled(pieces, swaps) }),
          };
          const { store } = watched;
          let reader: Reader = readerOf(store, order, counters);
          const renew = () => {
            reader = readerOf(store, order, counters);
            return reader;
          };
          for (const key of gets) {
            watched.watch(key);
            const value = await getBy(store, reader, renew, keyOf(key));
            if (!watched.sawAny(value)) throw new Error(`key ${key} never was ${value?.toString('hex')}`);
          }
        }),
        { numRuns: 60 },
      );
      // The test is worth something only if this happened.
      expect(counters.tornBlocks).toBeGreaterThan(20);
      expect(counters.tornBuckets).toBeGreaterThan(20);
      expect(counters.hits).toBeGreaterThan(5);
      expect(counters.moved).toBeGreaterThan(5);
    },
  );

  it('has the server asked for a key that is written all the time', async () => {
    const store = new Store({ memoryBytes: 64 * 1024 });
    const key = keyOf(1);
    let fill = 0;
    const write = () => {
      fill = (fill + 1) % 256;
      put(store, key, Buffer.alloc(1000, fill));
    };
    write();
    const counters = readerCounters();
    const reader = readerOf(store, { piece: 64, between: write }, counters);
    expect(await reader.get(key)).toEqual({ outcome: 'ask' });
    expect(counters.tornBlocks + counters.tornBuckets).toBe(MAX_ATTEMPTS);
  });

  it('tells readers of a table that was replaced, and of keys without a slot', async () => {
    const store = new Store({ memoryBytes: 1024 * 1024, buckets: 1 });
    const reader = readerOf(store);
    for (let index = 0; index < 200; index++) put(store, keyOf(index), Buffer.from(`${index}`));
    expect(await reader.get(keyOf(0))).toEqual({ outcome: 'retired' });
    expect(store.stats).toMatchObject({ keys: 200, buckets: 64, generation: 7 });
    // A seed decides which buckets are full, so some store has one sooner or later.
    for (let tries = 0; tries < 200; tries++) {
      const other = new Store({ memoryBytes: 1024 * 1024, buckets: 8 });
      for (let index = 0; index < 38; index++) put(other, keyOf(index), Buffer.from(`${index}`));
      if (other.stats.overflowed === 0) continue;
      const found = await Promise.all(
        Array.from({ length: 38 }, (_, index) => readerOf(other).get(keyOf(index))),
      );
      expect(found.filter(({ outcome }) => outcome === 'ask')).toHaveLength(other.stats.overflowed);
      for (let index = 0; index < 38; index++) other.delete(keyOf(index));
      expect(await readerOf(other).get(keyOf(0))).toEqual({ outcome: 'absent' });
      return;
    }
    throw new Error('no bucket was ever full');
  });

  it('takes the longest and the shortest keys and values, and refuses longer ones', async () => {
    const store = new Store({ memoryBytes: 4 * 1024 * 1024 });
    for (const [key, value] of [
      [Buffer.alloc(0), Buffer.alloc(0)],
      [Buffer.alloc(MAX_KEY_BYTES, 0xff), Buffer.alloc(MAX_VALUE_BYTES, 1)],
      [Buffer.from([0]), Buffer.from([0])],
      [Buffer.from([0, 0]), Buffer.alloc(3, 0)],
    ] as const) {
      put(store, key, value);
      const found = await readerOf(store).get(key);
      expect(found.outcome === 'value' && found.value.equals(value)).toBe(true);
    }
    expect(() => store.prepare(Buffer.alloc(MAX_KEY_BYTES + 1), Buffer.alloc(0))).toThrow(
      expect.objectContaining({ code: 'ERR_KV_INVALID', message: expect.stringContaining('256 bytes') }),
    );
    expect(() => store.prepare(Buffer.alloc(1), Buffer.alloc(MAX_VALUE_BYTES + 1))).toThrow(
      expect.objectContaining({ code: 'ERR_KV_INVALID', message: expect.stringContaining('1048577 bytes') }),
    );
  });

  it('that is full says so and stays as it was', () => {
    const store = new Store({ memoryBytes: 8192 });
    put(store, keyOf(1), Buffer.alloc(4000, 1));
    put(store, keyOf(2), Buffer.alloc(3000, 2));
    // The new value needs its memory before the old one gives its own back.
    expect(() => store.prepare(keyOf(1), Buffer.alloc(4000))).toThrow(
      expect.objectContaining({ code: 'ERR_KV_FULL' }),
    );
    expect(store.get(keyOf(1))?.value).toEqual(Buffer.alloc(4000, 1));
    const { freeBytes } = store.stats;
    store.discard(store.prepare(keyOf(3), Buffer.alloc(500)));
    expect(store.stats.freeBytes).toBe(freeBytes);
    expect(() => new Store({ memoryBytes: 5000 })).toThrow(/multiple of 4096/);
    expect(() => new Store({ buckets: 3 })).toThrow(/power of two/);
  });
});

function shuffled(count: number, numbers: IterableIterator<number>): number[] {
  const list = Array.from({ length: count }, (_, index) => index);
  for (let index = count - 1; index > 0; index--) {
    const other = numbers.next().value! % (index + 1);
    [list[index], list[other]] = [list[other]!, list[index]!];
  }
  return list;
}
