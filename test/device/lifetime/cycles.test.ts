/** Connections that come and go leave nothing behind. */
import { describe, expect, it } from 'vitest';
import { devices } from '../helpers/devices.ts';
import { HANG_MS, runProgram } from './run.ts';

/** More than the 1000 after which others have stopped working; `npm run test:lifetime` makes 10 000. */
const COUNT = 1200;
/** Of the second half: a few pages for each connection would be more. */
const MAX_RSS_GROWTH_KIB = 8 * 1024;

describe.each(devices)('connections on $name', { timeout: HANG_MS + 5000 }, ({ name, host }) => {
  it('come and go, and leave no descriptor, object, pinned page or memory behind', async () => {
    const { out, ...end } = await runProgram('cycles', [name, host, String(COUNT)]);
    expect(end).toEqual({ code: 0, signal: null, err: '' });
    const { before, after, rssGrowthKiB } = JSON.parse(out);
    expect(after).toEqual(before);
    expect(rssGrowthKiB).toBeLessThan(MAX_RSS_GROWTH_KIB);
  });
});
