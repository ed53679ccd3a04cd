import { describe, expect, it } from 'vitest';
import { type RwLoad, rwSizing, type SizedDevice } from '../../../lib/rw/sizing.ts';

const device = (provider: string, change: Partial<SizedDevice['attr']> = {}): SizedDevice => ({
  provider,
  transport: provider === 'siw' || provider === 'cxgb4' ? 'iwarp' : 'ib',
  attr: { maxSge: 6, maxSgeRd: 5, maxQpWr: 1024, maxCqe: 4096, ...change },
  queryPort: () => ({ maxMsgSz: 2 ** 20 }),
});

describe('rwSizing', () => {
  const cases: [what: string, provider: string, load: RwLoad, expected: object][] = [
    ['one piece each', 'rxe', { operations: 8 }, { wrsPerOperation: 1, qp: { maxSendWr: 8 }, regions: 8 }],
    ['SGEs of one work request', 'rxe', { operations: 1, fragments: 4 }, { wrsPerOperation: 1, regions: 4 }],
    ['one SGE more', 'rxe', { operations: 1, fragments: 5 }, { wrsPerOperation: 2 }],
    [
      'READs, which take fewer SGEs',
      'rxe',
      { operations: 2, fragments: 11, maxSendSge: 6 },
      { wrsPerOperation: 3, qp: { maxSendWr: 6 } },
    ],
    [
      'WRITEs alone',
      'rxe',
      { operations: 2, fragments: 11, maxSendSge: 6, reads: false },
      { wrsPerOperation: 2 },
    ],
    ['more than a message', 'rxe', { operations: 1, bytes: 2 ** 20 + 1 }, { wrsPerOperation: 2 }],
    [
      'three messages of four SGEs',
      'rxe',
      { operations: 1, fragments: 8, bytes: 3 * 2 ** 20 },
      { wrsPerOperation: 5 },
    ],
    [
      'messages behind WRITEs',
      'rxe',
      { operations: 4, messages: true, reads: false },
      { qp: { maxSendWr: 8 } },
    ],
    [
      'sends and receives',
      'rxe',
      { operations: 4, sends: 3, receives: 5 },
      { qp: { maxSendWr: 7, maxRecvWr: 5 }, cqe: 16 },
    ],
    ['READs of siw: one SGE, perhaps in two', 'siw', { operations: 1, fragments: 3 }, { wrsPerOperation: 6 }],
    ['arena memory', 'siw', { operations: 3, foreign: false }, { regions: 0 }],
    [
      'arena memory, but sinks of iWARP hardware',
      'cxgb4',
      { operations: 3, fragments: 2, foreign: false },
      { regions: 6 },
    ],
    [
      'more than the device has',
      'rxe',
      { operations: 2000, fragments: 5, sends: 24 },
      { qp: { maxSendWr: 1024 }, concurrent: 500 },
    ],
    ['as many as asked for', 'rxe', { operations: 10, fragments: 5 }, { concurrent: 10 }],
    [
      'sends alone',
      'rxe',
      { operations: 0, sends: 9 },
      { wrsPerOperation: 0, qp: { maxSendWr: 9 }, concurrent: 0 },
    ],
  ];
  it.each(cases)('%s', (_, provider, load, expected) => {
    expect(rwSizing(device(provider), load)).toMatchObject(expected);
  });

  it('refuses what is no load, and what no send queue can take', () => {
    for (const [load, text] of [
      [{ operations: 0 }, /load.operations must be an integer from 1/],
      [{ operations: -1 }, /load.operations/],
      [{ operations: 1, fragments: 0 }, /load.fragments must be an integer from 1/],
      [{ operations: 1, bytes: 0.5 }, /load.bytes/],
      [{ operations: 1, maxSendSge: 7 }, /load.maxSendSge must be an integer from 1 to 6, got 7/],
    ] as const) {
      expect(() => rwSizing(device('rxe'), load)).toThrow(text);
    }
    expect(() => rwSizing(device('rxe', { maxQpWr: 4 }), { operations: 1, fragments: 17 })).toThrow(
      /17 fragments and 1048576 bytes needs up to 5 work requests, and a send queue of this device has at most 4/,
    );
  });
});
