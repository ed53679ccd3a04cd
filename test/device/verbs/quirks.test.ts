import { describe, expect, it } from 'vitest';
import { openDevice } from '../../../lib/index.ts';
import { devices } from '../helpers/devices.ts';

describe.each(devices)('quirks of $name', ({ name }) => {
  it('are listed with name, reason and source', () => {
    using device = openDevice(name);
    const { quirks } = device;
    expect(quirks.length).toBeGreaterThan(5);
    for (const quirk of quirks) {
      expect(quirk.name).toMatch(/^[a-z]+(-[a-z]+)*$/);
      expect(quirk.reason.length).toBeGreaterThan(20);
      expect(quirk.source).toMatch(/^(kernel|rdma-core) /);
    }
    expect(new Set(quirks.map((quirk) => quirk.name)).size).toBe(quirks.length);
    expect(quirks.map((quirk) => quirk.name)).toContain(name === 'siw0' ? 'read-fence' : 'extended-only');
  });
});
