import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { describe, expect, it } from 'vitest';
import { hasCommand, hasFile, installCommand, KERNEL, missing } from '../../tools/setup/packages.mjs';
import { checkHost } from '../../tools/setup/setup.mjs';
import { guestConfig, shellQuote } from '../../tools/softrdma/guest-config.ts';
import { isNoExec, memoryDir, parseMemory } from '../../tools/softrdma/memory.ts';
import { cacheDir, packageRoot, projectDir } from '../../tools/softrdma/paths.ts';
import { encodeFrame, FrameDecoder, LineWriter } from '../../tools/softrdma/protocol.ts';
import { countReport, NONE, summary } from '../../tools/test/suite.ts';
import { temporary } from './helpers.ts';

describe('set-up', () => {
  it.each(['18.20.0', '20.18.3'])('refuses Node.js %s', (version) => {
    expect(() => checkHost(version, 'linux')).toThrow(
      `this is Node.js ${version}; node-rdma needs 20.19 or later`,
    );
  });

  it('takes Linux with a Node.js that is new enough, and nothing else', () => {
    for (const version of ['20.19.0', '22.0.0']) expect(() => checkHost(version, 'linux')).not.toThrow();
    expect(() => checkHost('22.0.0', 'darwin')).toThrow('this is darwin');
  });

  it('finds commands in PATH and in the system directories', () => {
    using tmp = temporary();
    writeFileSync(join(tmp.path, 'some-tool'), '', { mode: 0o755 });
    writeFileSync(join(tmp.path, 'some-text'), '', { mode: 0o644 });
    expect(hasCommand('some-tool', tmp.path)).toBe(true);
    expect(hasCommand('some-text', tmp.path)).toBe(false);
    expect(hasCommand('some-tool', '/')).toBe(false);
    expect(hasCommand('sh', '')).toBe(true);
  });

  it('finds files by pattern', () => {
    using tmp = temporary();
    writeFileSync(join(tmp.path, 'librxe-rdmav34.so'), '');
    expect(hasFile(`${tmp.path}/librxe-rdmav*.so`)).toBe(true);
    expect(hasFile(`/nowhere|${tmp.path}/librxe-rdmav*.so`)).toBe(true);
    expect(hasFile(`${tmp.path}/libsiw-rdmav*.so`)).toBe(false);
  });

  it('names what is missing and how to install it', () => {
    const needs = [...KERNEL, { name: 'a thing', debian: 'thing-dev', files: ['/nowhere/thing.h'] }];
    expect(missing(needs).at(-1)?.name).toBe('a thing');
    expect(installCommand(missing(needs))).toMatch(/^apt-get install .*\bthing-dev$/);
  });
});

describe('frames', () => {
  it('come out as they went in, however they are cut', () => {
    const sent = ['', 'x', 'y'.repeat(1000)].map((text, id) => encodeFrame('1', id, Buffer.from(text)));
    const whole = Buffer.concat(sent);
    for (const size of [1, 7, 100, whole.length]) {
      const seen: string[] = [];
      const decoder = new FrameDecoder(({ type, id, payload }) =>
        seen.push(`${type}${id}${payload.toString()}`),
      );
      for (let at = 0; at < whole.length; at += size) decoder.push(whole.subarray(at, at + size));
      expect(seen).toEqual(['10', '11x', `12${'y'.repeat(1000)}`]);
    }
  });

  it('are sent no faster than the guest takes them', () => {
    const line = new PassThrough();
    const writer = new LineWriter(line);
    writer.send(Buffer.alloc(10_000, 1));
    writer.send(Buffer.from('end'));
    const first = (line.read() as Buffer).length;
    expect(first).toBeLessThan(4096);
    expect(line.read()).toBeNull();
    writer.taken(first);
    expect((line.read() as Buffer).length).toBe(first);
    writer.taken(20_000);
    expect((line.read() as Buffer).toString().endsWith('end')).toBe(true);
  });
});

describe('memory', () => {
  it('is given as people write it', () => {
    expect([parseMemory('4G'), parseMemory('512m')]).toEqual([2 ** 32, 2 ** 29]);
    for (const bad of ['4', '12K', '1M', '100G', 'lots', ''])
      expect(() => parseMemory(bad)).toThrow('256M to 64G');
  });

  it('is not put where nothing may be executed, nor where there is no room', () => {
    const mounts = 'root / ext4 rw 0 0\nshm /dev/shm tmpfs rw,nosuid,noexec 0 0\n';
    expect(isNoExec('/dev/shm', mounts)).toBe(true);
    expect(isNoExec('/dev/shmoo', mounts)).toBe(false);
    expect(isNoExec('/tmp', mounts)).toBe(false);
    expect(() => memoryDir(2 ** 60)).toThrow(/no room for \d+ MiB .*MiB free.*--memory 1G/s);
  });
});

describe('paths', () => {
  it('of the cache follow XDG_CACHE_HOME', () => {
    expect(cacheDir({ XDG_CACHE_HOME: '/x/y' })).toBe('/x/y/node-rdma/softrdma');
    expect(cacheDir({})).toMatch(/\/\.cache\/node-rdma\/softrdma$/);
  });

  it('of the project: the nearest package.json, else the directory itself, never /', () => {
    using tmp = temporary();
    writeFileSync(join(tmp.path, 'package.json'), '{}');
    expect(projectDir(join(tmp.path, 'a', 'b'))).toBe(tmp.path);
    expect(projectDir('/usr/bin')).toBe('/usr/bin');
    expect(projectDir('/')).toBeUndefined();
  });
});

it('the guest reads its configuration as it was meant', () => {
  using tmp = temporary();
  const odd = `/dir with spaces/and 'quotes"/$HOME`;
  const helper = join(tmp.path, "it's a helper");
  writeFileSync(helper, '#!/bin/sh\nprintf "%s\\n" "$@"\n', { mode: 0o755 });
  const text = guestConfig({ helper, hostname: 'h', number: 2, cabled: true, writable: [odd, '/b'] });
  const output = execFileSync('sh', [
    '-c',
    `${text}\nprintf '%s\\n' "$SIW_ADDR" "$RXE_NET"; root=/r; make_root`,
  ]);
  expect(output.toString()).toBe(`10.0.2.2\nvec0\nroot\n/r\n${odd}\n/b\n`);
  expect(shellQuote("it's")).toBe(`'it'\\''s'`);
});

describe('the count of tests', () => {
  const report = {
    numPassedTests: 5,
    numFailedTests: 0,
    numPendingTests: 1,
    numTodoTests: 1,
    testResults: [],
  };

  it('is what the report says', () => {
    expect(countReport(report, 0)).toEqual({ passed: 5, failed: 0, skipped: 2, notes: [] });
    expect(summary({ ...NONE, passed: 5, skipped: 2 })).toBe('5 passed, 0 failed, 2 skipped');
    expect(summary({ ...NONE, passed: 5, failed: 1, notes: ['a', 'b'] })).toBe('a\nb\n5 passed, 1 failed');
  });

  it('names what failed, and what a second attempt hid', () => {
    const tests = [
      { fullName: 'steady', status: 'passed', meta: {}, failureMessages: [] },
      { fullName: 'moody', status: 'passed', meta: {}, failureMessages: ['expected 1 to be 2\n    at file'] },
      { fullName: 'wrong', status: 'failed', meta: {}, failureMessages: ['no'] },
      { fullName: 'beheaded', status: 'skipped', meta: {}, failureMessages: [] },
    ];
    const file = (name: string, message: string, assertionResults: typeof tests) => ({
      name: join(packageRoot, name),
      status: 'failed',
      message,
      assertionResults,
    });
    const testResults = [
      file('some.test.ts', '', tests),
      file('broken.test.ts', 'g++ failed\nwith many words', tests.slice(3)),
    ];
    expect(countReport({ ...report, numFailedTests: 1, testResults }, 1)).toMatchObject({
      failed: 2,
      notes: [
        'failed: broken.test.ts: g++ failed',
        'tried again: moody: expected 1 to be 2',
        'failed: wrong: no',
      ],
    });
  });

  it('has a failure for whatever went wrong without being counted', () => {
    const broken = {
      ...report,
      testResults: [{ name: '/a', status: 'failed', message: 'no', assertionResults: [] }],
    };
    expect(countReport(broken, 1).failed).toBe(1);
    expect(countReport(report, 1).failed).toBe(1);
    expect(countReport(undefined, 125).failed).toBe(1);
    expect(countReport(undefined, 0)).toEqual(NONE);
  });
});
