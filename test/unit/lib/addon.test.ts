import { copyFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { loadAddon } from '../../../lib/addon.ts';
import { listDevices, openDevice, RdmaError } from '../../../lib/index.ts';

const binary = resolve('build/Release/node_rdma.node');

describe('the native addon', () => {
  let directory: string;

  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), 'node-rdma-addon-'));
  });
  afterEach(() => rmSync(directory, { recursive: true }));

  /** A copy of the binary in which [from] reads [to], which has the same length. */
  function patched(from: string, to: string): string {
    const bytes = readFileSync(binary);
    const at = bytes.indexOf(`${from}\0`);
    expect(at).toBeGreaterThan(0);
    bytes.write(to, at, 'latin1');
    const path = join(directory, 'patched.node');
    writeFileSync(path, bytes);
    return path;
  }

  function loadError(path: string): RdmaError {
    try {
      loadAddon(path);
    } catch (error) {
      expect(error).toBeInstanceOf(RdmaError);
      return error as RdmaError;
    }
    throw new Error('the addon was loaded');
  }

  it.each([
    ['libibverbs.so.1', 'libibverbs.so.9', 'libibverbs1'],
    ['librdmacm.so.1', 'librdmacm.so.9', 'librdmacm1'],
  ])('names the package of a missing %s', (library, missing, packageName) => {
    // The loader looks for a library that no machine has, as it would on a machine without the real one.
    const error = loadError(patched(library, missing));
    expect(error).toMatchObject({ code: 'ERR_RDMA_ADDON', syscall: 'dlopen' });
    expect(error.message).toContain(`${missing} is missing`);
    expect(error.message).toContain(`install the package ${packageName}`);
    expect(error.message).toContain('apt-get install libibverbs1 librdmacm1');
    expect((error.cause as Error).message).toContain('cannot open shared object file');
  });

  it('says that it has not been built', () => {
    const error = loadError(join(directory, 'absent.node'));
    expect(error.message).toContain('npm run build');
  });

  it('refuses a file that is no addon', () => {
    const path = join(directory, 'text.node');
    writeFileSync(path, 'not a shared object');
    expect(loadError(path).code).toBe('ERR_RDMA_ADDON');
  });

  it('loads a second time', () => {
    const path = join(directory, 'copy.node');
    copyFileSync(binary, path);
    expect(loadAddon(path).listDevices()).toEqual(listDevices());
  });

  it('says what there is when a device is unknown', () => {
    expect(() => openDevice('none_0')).toThrow(/no RDMA device "none_0"; this machine has/);
  });
});
