import { execFileSync, spawnSync } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { hasCommand } from '../../tools/setup/packages.mjs';
import { hostDevices } from '../../tools/softrdma/host-devices.ts';
import { packageRoot } from '../../tools/softrdma/paths.ts';
import { cli, run, temporary } from './helpers.ts';

const sha256 = (data: Buffer) => createHash('sha256').update(data).digest('hex');

describe('the devices', () => {
  it('are rxe0 and siw0, up, with addresses that are told to the command', async () => {
    const script =
      'rdma link; ibv_devinfo -d rxe0 | grep active_mtu; ip -4 -o addr; ulimit -l;' +
      'echo "$NODE_RDMA_SOFT $RDMA_RXE_ADDR $RDMA_SIW_ADDR"; grep -c "cpu MHz" /proc/cpuinfo';
    const { status, stdout } = await run(['--cpus', '2', '--', 'sh', '-c', script]);
    const text = stdout.toString();
    expect(text).toMatch(/rxe0\/1 state ACTIVE .*netdev rxe-net/);
    expect(text).toMatch(/siw0\/1 state ACTIVE .*netdev siw-net/);
    expect(text).toMatch(/active_mtu:\s+4096/);
    expect(text).toContain('inet 10.0.1.1/24');
    expect(text).toContain('inet 10.0.2.1/24');
    expect(text).toMatch(/^unlimited\n1 10\.0\.1\.1 10\.0\.2\.1\n2\n$/m);
    expect(status).toBe(0);
  });

  it.each(['10.0.1.1', '10.0.2.1', 'fd00:1::1', 'fd00:2::1'])(
    'take a client and a server on %s',
    async (address) => {
      const script = `rping -s -a ${address} -C 20 -S 2000 -V & sleep 0.3; rping -c -a ${address} -C 20 -S 2000 -V && wait $!`;
      const { status, stderr } = await run(['--', 'sh', '-c', script]);
      expect(status, stderr).toBe(0);
    },
  );

  it('carry rcopy, byte for byte', async () => {
    const script = `head -c 5000000 /dev/urandom >/tmp/in
      rcopy & server=$!; sleep 0.3
      for a in $RDMA_RXE_ADDR $RDMA_SIW_ADDR; do rcopy /tmp/in $a:/tmp/out-$a && cmp /tmp/in /tmp/out-$a || exit 9; done
      kill $server`;
    expect((await run(['--', 'sh', '-c', script])).status).toBe(0);
  });

  it('carry ib_write_bw, which reports', async () => {
    // Two programs that poll can starve the device on two processors until their retries are used up: more than one go.
    const script = `for attempt in 1 2 3 4 5; do
        ib_write_bw -d rxe0 -x 1 -n 200 >/dev/null 2>&1 & sleep 0.5
        timeout 20 ib_write_bw -d rxe0 -x 1 -n 200 $RDMA_RXE_ADDR && break
        kill -9 $!; wait
      done`;
    const { stdout } = await run(['--', 'sh', '-c', script]);
    expect(stdout.toString()).toMatch(/65536\s+200\s+[\d.]+\s+[\d.]+/);
  });
});

describe('the exit status', () => {
  it.each([
    ['true', 0],
    ['exit 3', 3],
    ['exit 255', 255],
    ['kill -TERM $$', 143],
    ['kill -SEGV $$', 139],
  ])('of "%s" is %i', async (script, status) => {
    expect((await run(['--', 'sh', '-c', script])).status).toBe(status);
  });

  it('is 127 for a command that is not there, and the message says so', async () => {
    const { status, stderr } = await run(['--', 'no-such-command']);
    expect(status).toBe(127);
    expect(stderr).toContain('cannot run no-such-command');
  });

  it('is 125 for a bad option value', async () => {
    const { status, stderr } = await run(['--memory', '12', '--', 'true']);
    expect(status).toBe(125);
    expect(stderr).toContain('memory is 12; give 256M to 64G');
  });

  it('is 124 when time is up', async () => {
    const started = Date.now();
    const { status } = await run(['--timeout', '1', '--', 'sleep', '60']);
    expect(status).toBe(124);
    expect(Date.now() - started).toBeLessThan(10_000);
  });

  it('is 124 even for a command that will not end', async () => {
    const { status } = await run([
      '--timeout',
      '0.5',
      '--',
      'sh',
      '-c',
      'trap "" TERM; while :; do sleep 1; done',
    ]);
    expect(status).toBe(124);
  });
});

describe('the command', () => {
  it('gets its arguments as they are', async () => {
    const args = [
      'a b',
      '"quoted"',
      "it's",
      'line\nbreak',
      '',
      'ümläut 中文 🦀',
      '$HOME',
      '--timeout',
      '-x',
      '\\n',
    ];
    const { stdout } = await run([
      '--',
      process.execPath,
      '-p',
      'JSON.stringify(process.argv.slice(1))',
      '--',
      ...args,
    ]);
    expect(JSON.parse(stdout.toString())).toEqual(args);
  });

  it('gets the environment and the working directory', async () => {
    const env = { ...process.env, ODD: 'two words\n"and" a line', EMPTY: '' };
    const cwd = join(packageRoot, 'tools', 'softrdma');
    const print = 'JSON.stringify([process.env.ODD, process.env.EMPTY, process.cwd()])';
    const { stdout } = await run(['--', process.execPath, '-p', print], { env, cwd });
    expect(JSON.parse(stdout.toString())).toEqual([env.ODD, '', cwd]);
  });

  it('gets standard input, binary and to the end', async () => {
    const input = randomBytes(1_000_000);
    const { stdout } = await run(['--', 'cat'], { input });
    expect(sha256(stdout)).toBe(sha256(input));
  });

  it('writes standard output and standard error apart', async () => {
    const { stdout, stderr } = await run(['--', 'sh', '-c', 'echo out; echo err >&2; echo out2']);
    expect([stdout.toString(), stderr]).toEqual(['out\nout2\n', 'err\n']);
  });

  it('writes 10 MB of any bytes, all of which arrive', async () => {
    const script = `const b = require('crypto').createHash('sha256');
      const { randomBytes } = require('crypto');
      (async () => {
        for (let i = 0; i < 160; i++) {
          const chunk = randomBytes(65536);
          b.update(chunk);
          if (!process.stdout.write(chunk)) await new Promise((r) => process.stdout.once('drain', r));
        }
        process.stderr.write(b.digest('hex'));
      })();`;
    const { stdout, stderr, status } = await run(['--', process.execPath, '-e', script]);
    expect(status).toBe(0);
    expect(stdout.length).toBe(160 * 65536);
    expect(sha256(stdout)).toBe(stderr);
  });

  it('ends when nobody reads it any more, or when it reads no more', async () => {
    const shell = (script: string) =>
      execFileSync('bash', ['-c', `${script}; echo "$?"`, '-', process.execPath, cli], {
        timeout: 20_000,
      }).toString();
    expect(shell('"$1" "$2" -- yes | head -1')).toBe('y\n0\n');
    expect(shell('cat /dev/zero | "$1" "$2" -- sh -c "exit 4"')).toBe('4\n');
  });

  it.skipIf(!hasCommand('script'))('has a terminal where softrdma has one', () => {
    const command = `stty cols 91 rows 23; ${process.execPath} ${cli} -- sh -c 'stty size; test -t 2 && echo yes; exit 6'`;
    const { stdout } = spawnSync('script', ['-qec', command, '/dev/null'], { timeout: 20_000 });
    expect(stdout.toString()).toContain('23 91\r\r\nyes\r\r\n');
  });

  it('does not wait for what it left running', async () => {
    const started = Date.now();
    const { stdout } = await run(['--', 'sh', '-c', 'sleep 60 & echo done']);
    expect(stdout.toString()).toBe('done\n');
    expect(Date.now() - started).toBeLessThan(20_000);
  });
});

describe('the file system', () => {
  it('has the project writable, /tmp of its own, and forgets the rest', async () => {
    const name = `written-by-test-${process.pid}`;
    const file = join(packageRoot, name);
    const script = `echo project >${name}; echo tmp >/tmp/${name}; echo etc >/etc/${name} && cat /tmp/${name} /etc/${name}`;
    try {
      const { stdout, status } = await run(['--', 'sh', '-c', script]);
      expect([stdout.toString(), status]).toEqual(['tmp\netc\n', 0]);
      expect(readFileSync(file, 'utf8')).toBe('project\n');
      expect(existsSync(`/tmp/${name}`)).toBe(false);
      expect(existsSync(`/etc/${name}`)).toBe(false);
    } finally {
      rmSync(file, { force: true });
    }
  });

  it('shows a project that is below /tmp, and --writable directories', async () => {
    using project = temporary();
    using other = temporary();
    writeFileSync(join(project.path, 'package.json'), '{}');
    const script = `pwd; ls; echo x >here; echo y >${other.path}/there`;
    const args = ['--writable', other.path, '--', 'sh', '-c', script];
    const { stdout } = await run(args, { cwd: project.path });
    expect(stdout.toString()).toBe(`${project.path}\npackage.json\n`);
    expect(readFileSync(join(project.path, 'here'), 'utf8')).toBe('x\n');
    expect(readFileSync(join(other.path, 'there'), 'utf8')).toBe('y\n');
  });
});

it('runs two at once, each with its own devices', async () => {
  const script =
    'rdma link | wc -l; rping -s -a 10.0.1.1 -C 5 & sleep 0.3; rping -c -a 10.0.1.1 -C 5 && wait $!';
  const both = await Promise.all([run(['--', 'sh', '-c', script]), run(['--', 'sh', '-c', script])]);
  expect(both.map(({ status, stdout }) => [status, stdout.toString()])).toEqual([
    [0, '2\n'],
    [0, '2\n'],
  ]);
});

it.skipIf(hostDevices().length > 0)('--device host says what to do where there is no device', async () => {
  const { status, stderr } = await run(['--device', 'host', '--', 'true']);
  expect(status).toBe(125);
  expect(stderr).toContain('/sys/class/infiniband is empty');
  expect(stderr).toContain('leave out --device host');
});
