import { createHash } from 'node:crypto';
import {
  appendFileSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type Change, Log, type LogOptions } from '../../../examples/kv/log.ts';
import { Service } from '../../../examples/kv/service.ts';

let directory: string;
let path: string;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'kv-log-'));
  path = join(directory, 'log');
});

afterEach(() => rmSync(directory, { recursive: true }));

const key = (text: string) => Buffer.from(text);
const options = (more: Partial<LogOptions> = {}): LogOptions => ({
  path,
  sync: false,
  snapshot: () => [],
  liveBytes: () => 0,
  ...more,
});

/** A change in words: comparing megabytes byte by byte takes vitest minutes. */
function told({ key: bytes, version, value }: Change): string {
  const what = value === undefined ? 'deleted' : createHash('sha256').update(value).digest('hex');
  return `${bytes.toString('hex')} ${version} ${what}`;
}

async function replayed(): Promise<{ changes: string[]; cut: number }> {
  const changes: string[] = [];
  let cut = 0;
  const log = await Log.open(
    options(),
    (change) => changes.push(told(change)),
    (bytes) => {
      cut = bytes;
    },
  );
  await log.close();
  return { changes, cut };
}

const big = Buffer.alloc(1024 * 1024, 7);
const all: Change[] = [
  { key: key('a'), version: 1, value: Buffer.from('one') },
  { key: key(''), version: 2 ** 32 + 5, value: Buffer.alloc(0) },
  { key: key('a'), version: 0 },
  ...Array.from({ length: 9 }, (_, at) => ({ key: Buffer.alloc(255, at), version: 10 + at, value: big })),
];

async function writeAll(): Promise<void> {
  const log = await Log.open(options(), () => {});
  const order: number[] = [];
  await Promise.all(all.map((change, at) => log.append(change, () => order.push(at))));
  expect(order).toEqual(all.map((_, at) => at));
  expect(log.size).toBe(statSync(path).size);
  await log.close();
}

describe('the log', () => {
  it('replays what was appended, in order', async () => {
    await writeAll();
    expect(await replayed()).toEqual({ changes: all.map(told), cut: 0 });
  });

  it('cuts off what a killed server has left of its last record, at whatever byte', async () => {
    await writeAll();
    const whole = readFileSync(path);
    const last = 20 + 255 + big.length;
    for (const left of [1, 19, 20, 21, 300, last - 1]) {
      writeFileSync(path, whole.subarray(0, whole.length - last + left));
      expect(await replayed()).toEqual({ changes: all.slice(0, -1).map(told), cut: left });
      expect(statSync(path).size).toBe(whole.length - last);
    }
    // The record is there, but not all of its bytes.
    const damaged = Buffer.from(whole);
    damaged[whole.length - 5]! ^= 1;
    writeFileSync(path, damaged);
    expect(await replayed()).toEqual({ changes: all.slice(0, -1).map(told), cut: last });
    for (const left of [0, 3]) {
      writeFileSync(path, whole.subarray(0, left));
      expect((await replayed()).changes).toEqual([]);
      expect(readFileSync(path, 'latin1')).toBe('nrkvlog1');
    }
  });

  it('refuses a file that is damaged before its end, and one that is none, and leaves them alone', async () => {
    await writeAll();
    const whole = readFileSync(path);
    for (const [at, what] of [
      [0, 'not the log of a store at byte 0'],
      [8 + 20, 'wrong checksum at byte 8'],
      [8 + 5, 'at byte 8'],
    ] as const) {
      const damaged = Buffer.from(whole);
      damaged[at]! ^= 0x40;
      writeFileSync(path, damaged);
      await expect(replayed()).rejects.toMatchObject({
        code: 'ERR_KV_LOG',
        message: expect.stringContaining(what),
      });
      expect(readFileSync(path).equals(damaged)).toBe(true);
    }
  });

  it('is written anew when most of it is of no use, and forgets nothing then', async () => {
    const live: Change[] = [{ key: key('live'), version: 99, value: Buffer.alloc(5000, 1) }];
    const log = await Log.open(
      options({ snapshot: () => live, liveBytes: () => 5000, slackBytes: 20_000 }),
      () => {},
    );
    const filler = { key: key('filler'), version: 1, value: Buffer.alloc(10_000) };
    await log.append(filler, () => {});
    await log.append(filler, () => {});
    await log.append(filler, () => {});
    // What comes while it is written anew, or later, stands behind it.
    await log.append({ key: key('later'), version: 100, value: key('later') }, () => {});
    expect(log.size).toBe(statSync(path).size);
    expect(log.size).toBeLessThan(10_000);
    await log.close();
    const later = { key: key('later'), version: 100, value: key('later') };
    expect((await replayed()).changes).toEqual([...live, later].map(told));
    expect(readdirSync(directory)).toEqual(['log']);
  });

  it('that can not be written refuses everything from then on', async () => {
    const log = await Log.open(options({ path: '/dev/full' }), () => {}).catch((error) => error);
    expect(log).toMatchObject({ code: 'ENOSPC' });
  });
});

describe('a service with a file', () => {
  it('has after a restart what it had before, and versions go on', async () => {
    let service = await Service.open({ data: path, memoryBytes: 4 * 1024 * 1024 });
    await service.put(key('a'), key('1'));
    await service.put(key('b'), big);
    const last = await service.put(key('a'), key('2'));
    await service.put(key('c'), key('3'));
    expect(await service.delete(key('c'))).toBe(true);
    expect(await service.delete(key('c'))).toBe(false);
    await service.close();
    const said: string[] = [];
    appendFileSync(path, 'half a record');
    service = await Service.open({
      data: path,
      memoryBytes: 4 * 1024 * 1024,
      log: (text) => said.push(text),
    });
    expect(service.store.keys().map(String)).toEqual(['a', 'b']);
    expect(service.get(key('a'))).toEqual({ value: key('2'), version: last });
    expect(service.get(key('b'))?.value.equals(big)).toBe(true);
    expect(await service.put(key('a'), key('3'))).toBeGreaterThan(last);
    expect(said).toEqual([`${path}: cut off 13 bytes of an unfinished record`, `${path}: 2 keys`]);
    await service.close();
    await expect(Service.open({ data: path, memoryBytes: 4096 })).rejects.toMatchObject({
      code: 'ERR_KV_FULL',
    });
  });

  it('applies what comes at once in the order in which it came', async () => {
    const service = await Service.open({ data: path });
    await Promise.all(
      Array.from({ length: 500 }, (_, at) =>
        at % 7 === 3 ? service.delete(key('k')) : service.put(key('k'), key(`${at}`)),
      ),
    );
    expect(service.get(key('k'))?.value.toString()).toBe('499');
    await service.close();
    const again = await Service.open({ data: path });
    expect(again.get(key('k'))?.value.toString()).toBe('499');
    await again.close();
  });
});
