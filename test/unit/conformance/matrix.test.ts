import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import {
  DOCUMENT,
  deviceNames,
  difference,
  listCases,
  readExpected,
  render,
} from '../../conformance/matrix.ts';

const root = fileURLToPath(new URL('../../..', import.meta.url));
const expected = readExpected(root);

describe('the conformance matrix', () => {
  it('has an outcome on record for every case and device', () => {
    const missing = listCases().flatMap(({ id }) =>
      deviceNames
        .filter((device) => expected[id]?.[device] === undefined)
        .map((device) => `${id} on ${device}`),
    );
    expect(missing, 'record them: npm run conformance -- --update').toEqual([]);
  });

  it('has none for a case that there is not', () => {
    const known = new Set(listCases().map(({ id }) => id));
    expect(Object.keys(expected).filter((id) => !known.has(id))).toEqual([]);
  });

  it('is what docs/conformance.md tells', () => {
    const text = readFileSync(join(root, DOCUMENT), 'utf8');
    expect(text === render(expected), 'write it: npm run conformance -- --update').toBe(true);
  });

  it('has a pass wherever pyverbs 44 passes', () => {
    const lost = listCases().flatMap(({ id, baseline }) => {
      const theirs = { both: deviceNames, rxe: ['rxe0'] as const, none: [], newer: [], ours: deviceNames }[
        baseline
      ];
      return theirs
        .filter((device) => expected[id]?.[device]?.verdict !== 'pass')
        .map((device) => `${id} on ${device}`);
    });
    expect(lost).toEqual([]);
  });

  it('says why a case is not a pass', () => {
    const mute = Object.entries(expected).filter(([, entry]) =>
      Object.values(entry).some(({ verdict, why }) => (verdict === 'pass') === (why !== undefined)),
    );
    expect(mute).toEqual([]);
  });
});

describe('an outcome that is not on record', () => {
  const pass = { verdict: 'pass' } as const;
  const absent = { verdict: 'absent', why: 'no such thing' } as const;

  it('is told with the case, the device and what to do', () => {
    expect(difference('a.B.c', 'rxe0', pass, pass)).toBeUndefined();
    expect(difference('a.B.c', 'rxe0', absent, pass)).toBe(
      'conformance: a.B.c on rxe0 ended as "absent" (no such thing), but is on record as "pass". ' +
        'If that is right, record it: npm run conformance -- --update',
    );
    expect(difference('a.B.c', 'siw0', pass, absent)).toContain(
      'ended as "pass", but is on record as "absent"',
    );
    expect(difference('a.B.c', 'siw0', pass, undefined)).toContain('is not on record');
  });
});
