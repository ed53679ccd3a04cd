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

it('map-key: no queue of siw fails because of where its memory is mapped', () => {
  using device = openDevice('siw0');
  // Two pages each: without the rule the 73rd begins at 0x90000, and libsiw takes that for a failure.
  const queues = Array.from({ length: 100 }, () => device.createCq({ cqe: 100 }));
  expect(queues.every((queue) => queue.cqe >= 100)).toBe(true);
});
