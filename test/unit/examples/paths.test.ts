import { execFileSync } from 'node:child_process';
import {
  mkdirSync,
  mkdtempSync,
  readFileSync,
  realpathSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { checkName, listBelow, openBelow, resolveTarget } from '../../../examples/file-transfer/paths.ts';

const PART = '.rdma-part-0123abcd-1-0123456789ab';
let base: string;
let root: string;

beforeAll(() => {
  base = realpathSync(mkdtempSync(join(tmpdir(), 'paths-')));
  root = join(base, 'served');
  mkdirSync(join(root, 'sub'), { recursive: true });
  mkdirSync(join(base, 'served-not'));
  writeFileSync(join(base, 'secret'), 'secret');
  writeFileSync(join(base, 'served-not', 'secret'), 'secret');
  writeFileSync(join(root, 'file'), 'file');
  writeFileSync(join(root, 'sub', 'file..txt'), 'sub');
  writeFileSync(join(root, PART), 'unfinished');
  symlinkSync('../secret', join(root, 'link-out'));
  symlinkSync('../served-not', join(root, 'dir-out'));
  symlinkSync('/', join(root, 'slash'));
  symlinkSync('sub/file..txt', join(root, 'link-in'));
  symlinkSync('sub', join(root, 'dir-in'));
  symlinkSync('loop', join(root, 'loop'));
  symlinkSync('nowhere', join(root, 'dangling'));
  execFileSync('mkfifo', [join(root, 'fifo')]);
});

afterAll(() => rmSync(base, { recursive: true }));

const refusedNames = [
  ['', 'empty'],
  ['..', '".."'],
  ['../secret', '".."'],
  ['sub/../../secret', '".."'],
  ['sub/..', '".."'],
  ['/etc/passwd', 'absolute'],
  ['/', 'absolute'],
  ['file\0.txt', 'NUL'],
  ['.', 'empty part or "."'],
  ['./file', 'empty part or "."'],
  ['sub//file', 'empty part or "."'],
  ['sub/', 'empty part or "."'],
  [PART, 'unfinished'],
  ['x'.repeat(256), '255 bytes'],
  ['x/'.repeat(600).concat('x'), '1024'],
] as const;

describe('names', () => {
  it.each(refusedNames)('%j is refused', async (name, why) => {
    expect(() => checkName(name)).toThrow(why);
    await expect(openBelow(root, name)).rejects.toMatchObject({ code: 'ERR_TRANSFER_NAME' });
    await expect(resolveTarget(root, name)).rejects.toMatchObject({ code: 'ERR_TRANSFER_NAME' });
  });

  it.each(['a', 'a/b', '..a', 'a..', '...', 'a\\b', ' ', 'ü'])('%j is a name', (name) => {
    expect(() => checkName(name)).not.toThrow();
  });
});

describe('reading', () => {
  it.each([
    ['file', 'file'],
    ['sub/file..txt', 'sub'],
    ['link-in', 'sub'],
    ['dir-in/file..txt', 'sub'],
  ])('%s opens', async (name, content) => {
    await using handle = await openBelow(root, name);
    expect(await handle.readFile('utf8')).toBe(content);
  });

  it.each([
    ['link-out', 'ERR_TRANSFER_NAME', /leads out/],
    ['dir-out/secret', 'ERR_TRANSFER_NAME', /leads out/],
    ['slash/etc/passwd', 'ERR_TRANSFER_NAME', /leads out/],
    ['loop', 'ERR_TRANSFER_NAME', /too many symbolic links/],
    ['dangling', 'ERR_TRANSFER_NOT_FOUND', /no such file/],
    ['missing', 'ERR_TRANSFER_NOT_FOUND', /no such file/],
    ['file/below', 'ERR_TRANSFER_NOT_FOUND', /no such file/],
    ['sub', 'ERR_TRANSFER_NOT_A_FILE', /is a directory/],
    ['dir-in', 'ERR_TRANSFER_NOT_A_FILE', /is a directory/],
    ['fifo', 'ERR_TRANSFER_NOT_A_FILE', /not a regular file/],
  ])('%s is refused with %s', async (name, code, message) => {
    await expect(openBelow(root, name)).rejects.toMatchObject({
      code,
      message: expect.stringMatching(message),
    });
  });

  it('does not name the served directory to the peer', async () => {
    await expect(openBelow(root, 'missing')).rejects.not.toThrow(base);
  });

  it('lists regular files only', async () => {
    expect(await listBelow(root)).toEqual([
      { name: 'file', size: 4 },
      { name: 'sub/file..txt', size: 3 },
    ]);
  });
});

describe('writing', () => {
  it('resolves to a path below the directory', async () => {
    expect(await resolveTarget(root, 'new')).toBe(join(root, 'new'));
    expect(await resolveTarget(root, 'sub/new')).toBe(join(root, 'sub', 'new'));
    expect(await resolveTarget(root, 'dir-in/new')).toBe(join(root, 'sub', 'new'));
    expect(await resolveTarget(root, 'file')).toBe(join(root, 'file'));
  });

  it('replaces a link at the name itself instead of following it', async () => {
    expect(await resolveTarget(root, 'link-out')).toBe(join(root, 'link-out'));
    expect(readFileSync(join(base, 'secret'), 'utf8')).toBe('secret');
  });

  it.each([
    ['dir-out/new', 'ERR_TRANSFER_NAME'],
    ['slash/new', 'ERR_TRANSFER_NAME'],
    ['missing/new', 'ERR_TRANSFER_NOT_FOUND'],
    ['file/new', 'ERR_TRANSFER_NOT_FOUND'],
    ['sub', 'ERR_TRANSFER_NOT_A_FILE'],
    ['fifo', 'ERR_TRANSFER_NOT_A_FILE'],
  ])('%s is refused with %s', async (name, code) => {
    await expect(resolveTarget(root, name)).rejects.toMatchObject({ code });
  });
});
