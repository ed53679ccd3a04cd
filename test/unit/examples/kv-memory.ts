/** RDMA READ without a device: copies of a store's memory, piece by piece, with writes in between. */
import type { Description } from '../../../examples/kv/protocol.ts';
import { Reader, type ReaderCounters, type ReadMemory, readerCounters } from '../../../examples/kv/reader.ts';
import type { Store } from '../../../examples/kv/store.ts';

/** How a READ goes through memory. */
export interface ReadOrder {
  /** Bytes that are copied at once, a multiple of 4. */
  readonly piece: number;
  /** Called between two pieces. */
  readonly between: () => void;
  /** Which pieces come first; upwards by default. */
  readonly order?: (pieces: number) => number[];
}

/** The description that a server would give, with addresses that {@link memoryReader} knows. */
export function describeStore(store: Store, memories: ArrayBuffer[]): Description {
  const { table, segments, seed } = store.published;
  const expose = (memory: ArrayBuffer) => {
    memories.push(memory);
    return { addr: 0, rkey: memories.length - 1, length: memory.byteLength };
  };
  return {
    leaseMs: 1000,
    generation: table.generation,
    seed,
    table: expose(table.memory),
    segments: segments.map(expose),
  };
}

/** Reads those memories as a device does that copies in pieces. */
export function memoryReader(
  memories: readonly ArrayBuffer[],
  { piece, between, order }: ReadOrder,
): ReadMemory {
  return async (memory, offset, length, use) => {
    const source = Buffer.from(memories[memory.rkey]!, offset, length);
    const bytes = Buffer.alloc(length);
    const pieces = Math.ceil(length / piece);
    for (const index of order?.(pieces) ?? Array.from({ length: pieces }, (_, at) => at)) {
      source.copy(bytes, index * piece, index * piece, (index + 1) * piece);
      between();
    }
    // A READ takes at least a turn of the event loop; whoever else is waiting goes on.
    await null;
    return use(bytes);
  };
}

/** A reader of [store] as it is now. */
export function readerOf(
  store: Store,
  order: ReadOrder = { piece: 4096, between: () => {} },
  counters: ReaderCounters = readerCounters(),
): Reader {
  const memories: ArrayBuffer[] = [];
  return new Reader(describeStore(store, memories), memoryReader(memories, order), counters);
}

/** What a client does with a reader: asks for a new table, or for the value. */
export async function getBy(
  store: Store,
  reader: Reader,
  renew: () => Reader,
  key: Buffer,
): Promise<Buffer | undefined> {
  let found = await reader.get(key);
  for (let renewals = 0; found.outcome === 'retired' && renewals < 3; renewals++) {
    found = await renew().get(key);
  }
  if (found.outcome === 'value') return found.value;
  return found.outcome === 'absent' ? undefined : store.get(key)?.value;
}
