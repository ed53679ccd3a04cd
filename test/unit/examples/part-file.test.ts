import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { isPartName, PartFile } from '../../../examples/file-transfer/part-file.ts';
import { formatBytes, formatRate, formatTime } from '../../../examples/file-transfer/progress.ts';

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'part-'));
});
afterEach(() => rmSync(directory, { recursive: true }));

describe('PartFile', () => {
  it('appears under its name at the end only', async () => {
    writeFileSync(join(directory, 'name'), 'old');
    const part = await PartFile.create(join(directory, 'name'));
    await part.handle.writeFile('new');
    expect(readFileSync(join(directory, 'name'), 'utf8')).toBe('old');
    await part.commit(true);
    expect(readFileSync(join(directory, 'name'), 'utf8')).toBe('new');
    expect(readdirSync(directory)).toEqual(['name']);
  });

  it('leaves nothing when discarded, twice even', async () => {
    const part = await PartFile.create(join(directory, 'name'));
    await part.discard();
    await part.discard();
    expect(readdirSync(directory)).toEqual([]);
  });

  it('removes what killed processes left, and nothing of living ones', async () => {
    const living = await PartFile.create(join(directory, 'living'));
    const [name] = readdirSync(directory);
    const dead = spawnSync(process.execPath, ['-e', '']).pid;
    writeFileSync(join(directory, name!.replace(`-${process.pid}-`, `-${dead}-`)), 'left');
    writeFileSync(join(directory, name!.replace(/part-[0-9a-f]{8}/, 'part-00000000')), 'of another host');
    expect(readdirSync(directory).filter(isPartName)).toHaveLength(3);
    const part = await PartFile.create(join(directory, 'name'));
    expect(readdirSync(directory).filter(isPartName)).toHaveLength(3);
    expect(readdirSync(directory)).not.toContain(name!.replace(`-${process.pid}-`, `-${dead}-`));
    await Promise.all([part.discard(), living.discard()]);
  });
});

describe('what a person reads', () => {
  it.each([
    [0, '0 B'],
    [999, '999 B'],
    [1000, '1.00 kB'],
    [268435456, '268 MB'],
    [999600, '1.00 MB'],
    [5e15, '5.00e+3 TB'],
  ])('%d bytes as %s', (bytes, text) => expect(formatBytes(bytes)).toBe(text));

  it('rates and times', () => {
    expect(formatRate(3e9, 2)).toBe('1.50 GB/s');
    expect(formatTime(75)).toBe('1:15');
    expect(formatTime(Number.POSITIVE_INFINITY)).toBe('-:--');
  });
});
