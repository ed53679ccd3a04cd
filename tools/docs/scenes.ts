/** What the pictures of docs/dma.md show: memory on the left, what is put in between, work requests on the right. */

/** How a box is filled: memory with a key, memory without, something made for the transfer, what the device is given. */
export type Look = 'keyed' | 'foreign' | 'made' | 'wr';

/** A box. Its parts are drawn one below the other. */
export interface Box {
  readonly look: Look;
  /** One line each. */
  readonly parts: readonly string[];
  /** Below it. */
  readonly note?: string;
}

/** An arrow from a part of one box to a part of another: `column.box.part`, counted from 0. */
export interface Arrow {
  readonly from: string;
  readonly to: string;
  /** The CPU copies; otherwise the device reaches. */
  readonly copy?: boolean;
}

/** One picture. */
export interface Scene {
  /** File name, without the extension. */
  readonly name: string;
  readonly title: string;
  /** Memory, what is in between, work requests. */
  readonly columns: readonly [readonly Box[], readonly Box[], readonly Box[]];
  readonly arrows: readonly Arrow[];
  /** What it costs. */
  readonly cost: string;
}

const arena = (...parts: string[]): Box => ({ look: 'keyed', parts, note: 'arena' });
const foreign = (...parts: string[]): Box => ({ look: 'foreign', parts, note: 'from V8' });
const wr = (...parts: string[]): Box => ({ look: 'wr', parts });

/** The strategies, in the order of the table. */
export const scenes: readonly Scene[] = [
  {
    name: 'inline',
    title: 'inline: the bytes travel in the work request',
    columns: [[foreign('40 bytes'), arena('20 bytes')], [], [wr('SEND, 60 bytes in it')]],
    arrows: [
      { from: '0.0.0', to: '2.0.0', copy: true },
      { from: '0.1.0', to: '2.0.0', copy: true },
    ],
    cost: 'no key, no DMA read; the memory is free when the post returns',
  },
  {
    name: 'single',
    title: 'single: one piece of arena memory, one SGE',
    columns: [[arena('9000 bytes')], [], [wr('SGE: addr, 9000, local key')]],
    arrows: [{ from: '2.0.0', to: '0.0.0' }],
    cost: 'nothing to set up, nothing to undo',
  },
  {
    name: 'multi',
    title: 'multi: as many pieces as SGEs',
    columns: [[arena('a'), arena('b'), arena('c')], [], [wr('SGE a', 'SGE b', 'SGE c')]],
    arrows: [
      { from: '2.0.0', to: '0.0.0' },
      { from: '2.0.1', to: '0.1.0' },
      { from: '2.0.2', to: '0.2.0' },
    ],
    cost: 'one work request; the device gathers or scatters',
  },
  {
    name: 'chain',
    title: 'chain: more pieces than SGEs, READ or WRITE',
    columns: [
      [arena('a'), arena('b'), arena('c'), arena('d')],
      [],
      [wr('SGE a', 'SGE b'), wr('SGE c', 'SGE d')],
    ],
    arrows: [
      { from: '2.0.0', to: '0.0.0' },
      { from: '2.0.1', to: '0.1.0' },
      { from: '2.1.0', to: '0.2.0' },
      { from: '2.1.1', to: '0.3.0' },
    ],
    cost: 'several work requests, the last one signalled; the remote address advances',
  },
  {
    name: 'linear',
    title: 'linear: pages mapped a second time, side by side',
    columns: [
      [arena('page a'), arena('page b'), arena('page c')],
      [{ look: 'made', parts: ['page c', 'page a', 'page b'], note: 'window of addresses' }],
      [wr('SGE: window, its key')],
    ],
    arrows: [
      { from: '1.0.0', to: '0.2.0' },
      { from: '1.0.1', to: '0.0.0' },
      { from: '1.0.2', to: '0.1.0' },
      { from: '2.0.0', to: '1.0.1' },
    ],
    cost: 'one mmap for each piece; one registration, or none where the window keeps its key',
  },
  {
    name: 'indirectMkey',
    title: 'indirectMkey: a key that names other keys',
    columns: [
      [arena('a'), arena('b'), arena('c')],
      [{ look: 'made', parts: ['extent a', 'extent b', 'extent c'], note: 'indirect key' }],
      [wr('SGE: 0, total, that key')],
    ],
    arrows: [
      { from: '1.0.0', to: '0.0.0' },
      { from: '1.0.1', to: '0.1.0' },
      { from: '1.0.2', to: '0.2.0' },
      { from: '2.0.0', to: '1.0.1' },
    ],
    cost: 'any alignment; an interface only, for devices that have such keys',
  },
  {
    name: 'bounce',
    title: 'bounce: copied through an arena block',
    columns: [
      [foreign('a'), { look: 'foreign', parts: ['b'], note: "Node's Buffer pool" }],
      [{ look: 'keyed', parts: ['a', 'b'], note: 'arena block' }],
      [wr('SGE: block, local key')],
    ],
    arrows: [
      { from: '0.0.0', to: '1.0.0', copy: true },
      { from: '0.1.0', to: '1.0.1', copy: true },
      { from: '2.0.0', to: '1.0.0' },
    ],
    cost: 'one copy; before the post for SEND and WRITE, at the completion for RECV and READ',
  },
  {
    name: 'cachedMr',
    title: 'cachedMr: the whole buffer stays registered',
    columns: [
      [foreign('unused', 'a', 'unused')],
      [{ look: 'made', parts: ['region of the buffer'], note: 'kept, within a budget' }],
      [wr('SGE: a, key of the region')],
    ],
    arrows: [
      { from: '1.0.0', to: '0.0.1' },
      { from: '2.0.0', to: '1.0.0' },
    ],
    cost: 'one registration at the second use; none from then on',
  },
  {
    name: 'transientMr',
    title: 'transientMr: exactly the range, for this transfer',
    columns: [
      [foreign('neighbour', 'a', 'neighbour')],
      [{ look: 'made', parts: ['region of a'], note: 'closed at the completion' }],
      [wr('SGE: a, key of the region')],
    ],
    arrows: [
      { from: '1.0.0', to: '0.0.1' },
      { from: '2.0.0', to: '1.0.0' },
    ],
    cost: 'two system calls and pinned pages for each piece',
  },
];
