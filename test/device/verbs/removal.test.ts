import { execFileSync, spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { afterEach, describe, expect, it } from 'vitest';
import { devices } from '../helpers/devices.ts';

const program = fileURLToPath(new URL('../../../dist/test/device/verbs/removal-program.js', import.meta.url));

function run(...args: string[]): Promise<{ code: number | null; out: string; err: string }> {
  return new Promise((resolve) => {
    const child = spawn(process.execPath, [program, ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
    let out = '';
    let err = '';
    child.stdout.on('data', (data) => {
      out += data;
    });
    child.stderr.on('data', (data) => {
      err += data;
    });
    child.on('close', (code) => resolve({ code, out, err }));
  });
}

describe.each(devices)('a device like $name that is removed', ({ name }) => {
  const driver = name.slice(0, 3);

  afterEach(() => execFileSync('ip', ['link', 'delete', `${driver}9-net`]));

  it.each(['link', 'netdev'])('is noticed, settled and let go of (%s)', async (how) => {
    const { code, out, err } = await run(driver, how);
    expect({ code, err }).toEqual({ code: 0, err: '' });
    const { events, ...report } = JSON.parse(out);
    // The thread's own opening of the device, which the ids share, may hear first.
    expect(events.sort()).toEqual([
      'DEVICE_REMOVED ERR',
      'client DEVICE_REMOVAL',
      'listener DEVICE_REMOVAL',
      'server DEVICE_REMOVAL',
    ]);
    expect(report).toEqual({
      // The removal itself ended, which rxe and siw allow only when nobody has the device open.
      status: 0,
      retired: ['ERR_RDMA_WC_WR_FLUSH_ERR', 'ERR_RDMA_WC_WR_FLUSH_ERR'],
      closed: [true, true, true, true, true, true, true],
      names: expect.not.arrayContaining([`${driver}9`]),
      // The other device, and the event channel.
      objects: 2,
      state: 'ACTIVE',
    });
  });
});
