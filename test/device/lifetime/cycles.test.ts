/** Connections that come and go leave nothing behind. */
import { describe, expect, it } from 'vitest';
import { devices } from '../helpers/devices.ts';
import { HANG_MS, runProgram } from './run.ts';

/** Together more than the 1000 after which others have stopped working; `npm run test:lifetime` makes 10 000. */
const WARM_UP = 600;
const COUNT = 600;
/** A few pages for each connection would be more. A sanitizer keeps what has been freed. */
const MAX_RSS_GROWTH_KIB = process.env.ASAN_OPTIONS === undefined ? 8 * 1024 : 32 * 1024;

describe.each(devices)('connections on $name', { timeout: HANG_MS + 5000 }, ({ name, host }) => {
  it('come and go, and leave no descriptor, object, pinned page or memory behind', async () => {
    const { out, ...end } = await runProgram('cycles', [name, host, String(WARM_UP), String(COUNT)]);
    expect(end).toEqual({ code: 0, signal: null, err: '' });
    const { before, after, rssKiB } = JSON.parse(out);
    expect(after).toEqual(before);
    expect(rssKiB.at(-1) - rssKiB[0]).toBeLessThan(MAX_RSS_GROWTH_KIB);
  });
});
