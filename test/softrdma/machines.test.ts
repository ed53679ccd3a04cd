import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { DeviceName, Machine } from '../../tools/softrdma/index.ts';
import { machines } from '../../tools/softrdma/index.ts';
import { eventually, hostCpus } from './helpers.ts';

describe('two machines', () => {
  let a: Machine;
  let b: Machine;
  beforeAll(async () => {
    [a, b] = (await machines(2, { memory: '1G' })) as [Machine, Machine];
  });
  afterAll(async () => {
    await a?.close();
    await b?.close();
  });

  /** Pings from b to a server on a; resolves to the client's and the server's status. */
  async function rping(device: DeviceName, count = 10): Promise<(number | null)[]> {
    const address = a.addresses[device];
    const server = a.run('rping', ['-s', '-a', address, '-C', String(count), '-S', '2000', '-V'], {
      timeout: 20_000,
    });
    expect(await eventually(() => listening(a))).toBe(true);
    const args = ['-c', '-a', address, '-C', String(count), '-S', '2000', '-V'];
    const client = await b.run('rping', args, { timeout: 20_000 });
    return [client.status, (await server).status];
  }

  /** Whether rdma_cm has a listener. */
  async function listening(machine: Machine): Promise<boolean> {
    return (await machine.run('rdma', ['resource', 'show', 'cm_id'])).stdout.includes('LISTEN');
  }

  async function portState(machine: Machine, device: DeviceName): Promise<string> {
    const { stdout } = await machine.run('cat', [`/sys/class/infiniband/${device}/ports/1/state`]);
    return stdout.trim();
  }

  it('have the addresses that they say', async () => {
    expect([a.addresses, b.addresses]).toEqual([
      { rxe0: '10.0.1.1', siw0: '10.0.2.1' },
      { rxe0: '10.0.1.2', siw0: '10.0.2.2' },
    ]);
    const { stdout } = await b.run('sh', ['-c', 'hostname; echo $RDMA_RXE_ADDR; ip -o addr']);
    expect(stdout).toMatch(/^soft-b\n10\.0\.1\.2\n/);
    expect(stdout).toContain('10.0.1.2/24');
    expect(stdout).toContain(`${b.addresses6.siw0}/64`);
  });

  it.runIf(process.getuid!() === 0)('run programs whose pages lie in no row', async () => {
    // Every other page first: no two neighbours come from one place, and each takes a mapping of the host.
    const program = `const pages = 80_000, memory = new Uint8Array(pages * 4096);
      for (const first of [0, 1]) for (let i = first; i < pages; i += 2) memory[i * 4096] = 1;
      console.log(memory.reduce((sum, byte) => sum + byte, 0));`;
    const { stdout } = await a.run(process.execPath, ['-e', program], { timeout: 60_000 });
    expect(stdout).toBe('80000\n');
  });

  it.each(['rxe0', 'siw0'] as const)('ping each other over %s', async (device) => {
    expect(await rping(device)).toEqual([0, 0]);
  });

  it('carry 20 MB over rcopy unharmed', async () => {
    const server = b.spawn('rcopy');
    await eventually(() => listening(b));
    await a.run('sh', ['-c', 'head -c 20000000 /dev/urandom >/tmp/in']);
    const copied = await a.run('rcopy', ['/tmp/in', `${b.addresses.rxe0}:/tmp/out`], { timeout: 50_000 });
    expect(copied.status).toBe(0);
    const sum = async (machine: Machine, file: string) =>
      (await machine.run('sha256sum', [file])).stdout.split(' ')[0];
    expect(await sum(b, '/tmp/out')).toBe(await sum(a, '/tmp/in'));
    server.kill();
    await server.exited;
  });

  it('stream a command, take its input and signal it', async () => {
    const cat = a.spawn('cat');
    cat.stdin.write('one\n');
    const first = await new Promise<Buffer>((resolve) => cat.stdout.once('data', resolve));
    expect(first.toString()).toBe('one\n');
    cat.kill('SIGUSR1');
    expect(await cat.exited).toEqual({ status: null, signal: 'SIGUSR1' });
  });

  it('end a command at its timeout or abort signal', async () => {
    expect(await a.run('sleep', ['60'], { timeout: 100 })).toMatchObject({
      signal: 'SIGKILL',
      timedOut: true,
    });
    const signal = AbortSignal.timeout(100);
    expect(await a.run('sleep', ['60'], { signal })).toMatchObject({ signal: 'SIGKILL', timedOut: false });
  });

  it('do not let an unread stream hold up another command', async () => {
    const noisy = a.spawn('sh', ['-c', 'yes']);
    expect((await a.run('echo', ['through'])).stdout).toBe('through\n');
    noisy.kill('SIGKILL');
    await noisy.exited;
  });

  it('tell of the end of a command whose output nobody reads', async () => {
    const noisy = a.spawn('sh', ['-c', 'yes']);
    // Until its windows are full and it stands still.
    let before = -1;
    await eventually(async () => {
      const grown = noisy.stdout.readableLength > before;
      before = noisy.stdout.readableLength;
      await sleep(200);
      return !grown && before > 0;
    }, 30_000);
    noisy.kill('SIGKILL');
    expect(await noisy.exited).toEqual({ status: null, signal: 'SIGKILL' });
  });

  it('can be killed: the survivor notices, and the dead one comes back', async () => {
    const counters = '/sys/class/infiniband/rxe0/ports/1/hw_counters';
    const test = ['-d', 'rxe0', '-R', '--retry_count', '3', '-n', '1000000'];
    const server = b.spawn('ib_write_bw', test);
    server.stdout.resume();
    server.stderr.resume();
    const tcp = async () => (await b.run('ss', ['-tln'])).stdout.includes(':18515');
    expect(await eventually(tcp)).toBe(true);
    // It always has WRITEs on their way, and gives up: rping sits out the peer's turn, and asks rxe to retry for ever (7).
    const survivor = a.run('ib_write_bw', [...test, b.addresses.rxe0], { timeout: 40_000 });
    const sent = async () => Number((await a.run('cat', [`${counters}/sent_pkts`])).stdout);
    const before = await sent();
    expect(await eventually(async () => (await sent()) > before + 1000, 15_000)).toBe(true);
    await b.kill();
    await expect(server.exited).rejects.toMatchObject({ code: 'ERR_SOFTRDMA_DOWN' });
    await expect(b.run('true')).rejects.toMatchObject({ code: 'ERR_SOFTRDMA_DOWN' });
    const { status, timedOut, stdout, stderr } = await survivor;
    expect(timedOut).toBe(false);
    expect(status).not.toBe(0);
    expect(stdout + stderr).toMatch(/Completion with error|status 12/i);
    expect(b.up).toBe(false);
    await b.restart();
    expect(await rping('rxe0')).toEqual([0, 0]);
    expect(await rping('siw0')).toEqual([0, 0]);
  });

  it.each(['rxe0', 'siw0'] as const)('see %s go down and come back', async (device) => {
    expect(await portState(a, device)).toBe('4: ACTIVE');
    await a.link(device, 'down');
    expect(await eventually(async () => (await portState(a, device)) === '1: DOWN')).toBe(true);
    await a.link(device, 'up');
    expect(await eventually(async () => (await portState(a, device)) === '4: ACTIVE')).toBe(true);
    expect(await rping(device)).toEqual([0, 0]);
  });

  it.each(['rxe0', 'siw0'] as const)('feel a delay on %s until it is cleared', async (device) => {
    const timed = async () => {
      const started = Date.now();
      expect(await rping(device, 10)).toEqual([0, 0]);
      return Date.now() - started;
    };
    const before = await timed();
    await a.link(device, { delay: 50 });
    // Each of the 10 rounds has at least two messages from a.
    expect(await timed()).toBeGreaterThan(before / 2 + 500);
    await a.link(device, 'clear');
    expect((await a.run('tc', ['qdisc', 'show'])).stdout).not.toContain('netem');
  });

  it('lose frames: all of them, or some that are sent again', async () => {
    await b.link('rxe0', { loss: 100 });
    expect((await rpingClient(2000)).timedOut).toBe(true);
    await b.link('rxe0', { loss: 5 });
    const [client] = await rping('rxe0', 20);
    expect(client).toBe(0);
    // The client's goodbye is one frame, which may be lost too: its server then waits in vain.
    await b.link('rxe0', 'clear');
  });

  function rpingClient(timeout: number) {
    return b.run('rping', ['-c', '-a', a.addresses.rxe0, '-C', '1'], { timeout });
  }

  it('refuse a fault that there is not', async () => {
    await expect(a.link('rxe0', { loss: 101 })).rejects.toThrow(
      'loss is 101; give a percentage from 0 to 100',
    );
    await expect(a.link('rxe0', {})).rejects.toMatchObject({ code: 'ERR_SOFTRDMA_ARGUMENT' });
    await expect(a.link('mlx5_0' as 'rxe0', 'down')).rejects.toThrow('there is no device mlx5_0');
  });
});

describe('one machine', () => {
  it('has its own faults: down on both devices, delay on siw0 only', async () => {
    const [machine] = (await machines(1, { memory: '1G', cpus: 1 })) as [Machine];
    try {
      for (const device of ['rxe0', 'siw0'] as const) {
        const state = async () => (await machine.run('rdma', ['link', 'show', `${device}/1`])).stdout;
        await machine.link(device, 'down');
        expect(await state()).toContain('state DOWN');
        await machine.link(device, 'up');
        expect(await state()).toContain('state ACTIVE');
      }
      await expect(machine.link('rxe0', { delay: 10 })).rejects.toThrow('use two machines');
      await machine.link('siw0', { delay: 30 });
      const script = `rping -s -a 10.0.2.1 -C 10 & sleep 0.3; s=$(date +%s%N)
        rping -c -a 10.0.2.1 -C 10 && echo $(( ($(date +%s%N) - s) / 1000000 ))`;
      expect(Number((await machine.run('sh', ['-c', script])).stdout)).toBeGreaterThan(600);
      expect((await machine.run('nproc')).stdout).toBe('1\n');
    } finally {
      await machine.close();
    }
    await expect(machine.restart()).rejects.toMatchObject({ code: 'ERR_SOFTRDMA_DOWN' });
  });

  it('keeps a program on one CPU of the host, that of the processor which runs it', async () => {
    const [machine] = (await machines(1, { memory: '1G', cpus: 2 })) as [Machine];
    await using _machine = machine;
    await machine.run('sh', ['-c', 'true & true & wait']);
    const cpus = hostCpus(machine.pid!);
    expect(cpus.length).toBeGreaterThan(0);
    for (const list of cpus) expect(list).toMatch(/^\d+$/);
  });

  it('disposes of itself', async () => {
    let pid: number | undefined;
    {
      const [machine] = (await machines(1, { memory: '512M' })) as [Machine];
      await using _machine = machine;
      pid = machine.pid!;
      expect(process.kill(pid, 0)).toBe(true);
    }
    expect(() => process.kill(pid!, 0)).toThrow('ESRCH');
  });

  it('says why it does not boot', async () => {
    const kernel = process.env.NODE_RDMA_SOFT_KERNEL;
    process.env.NODE_RDMA_SOFT_KERNEL = '/bin/echo';
    try {
      await expect(machines(1)).rejects.toMatchObject({
        code: 'ERR_SOFTRDMA_BOOT',
        message: expect.stringContaining('rootfstype=hostfs') as string,
      });
    } finally {
      if (kernel === undefined) delete process.env.NODE_RDMA_SOFT_KERNEL;
      else process.env.NODE_RDMA_SOFT_KERNEL = kernel;
    }
  });
});

it.each([0, 3, 1.5])('machines(%d) is refused', async (count) => {
  await expect(machines(count)).rejects.toThrow('there can be 1 or 2');
});
