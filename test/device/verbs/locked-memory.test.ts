import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { describe, expect, it } from 'vitest';
import { openDevice } from '../../../lib/index.ts';
import { devices } from '../helpers/devices.ts';

const program = fileURLToPath(
  new URL('../../../dist/test/device/verbs/locked-memory-program.js', import.meta.url),
);

/** What a process says that may lock [limit] bytes, without CAP_IPC_LOCK, and registers [bytes]. */
async function register(name: string, limit: number, bytes: number): Promise<string> {
  const { stdout } = await promisify(execFile)('prlimit', [
    `--memlock=${limit}`,
    'setpriv',
    '--bounding-set=-ipc_lock',
    '--inh-caps=-ipc_lock',
    process.execPath,
    program,
    name,
    String(bytes),
  ]);
  return stdout;
}

describe.each(devices)('the limit of locked memory on $name', ({ name }) => {
  it('does not matter below it', async () => {
    expect(await register(name, 4 << 20, 1 << 20)).toBe('registered\n');
  });

  it('is named by the error, with what raises it', async () => {
    const said = await register(name, 65_536, 1 << 20);
    expect(said).toMatch(/^ibv_reg_mr ENOMEM ibv_reg_mr ENOMEM: 1048576 bytes, access 0x0/);
    expect(said).toMatch(/the limit of locked memory \(RLIMIT_MEMLOCK\) is 65536 bytes, pinned are \d+ kB/);
    expect(said).toMatch(/ulimit -l, LimitMEMLOCK= of a systemd unit or --ulimit memlock= of a container/);
    expect(said).not.toMatch(/1 GiB/);
  });

  it('may be 0, which forbids registration', async () => {
    const said = await register(name, 0, 4096);
    expect(said).toMatch(/^ibv_reg_mr (EPERM|ENOMEM) .*\(RLIMIT_MEMLOCK\) is 0 bytes/);
  });

  it('is not all that stands against a large region: quirk region-size', async () => {
    using device = openDevice(name);
    const limited = device.quirks.some((quirk) => quirk.name === 'region-size');
    expect(limited).toBe(name === 'rxe0');
    const said = await register(name, 65_536, 2 ** 30 + 4096);
    expect(said.includes('one region of this device has at most 1 GiB in any case')).toBe(limited);
  });
});
