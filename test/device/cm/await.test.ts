import { setImmediate, setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { type AwaitOptions, type CmId, liveObjects } from '../../../lib/index.ts';
import { CmScope, resources } from '../helpers/cm.ts';
import { devices } from '../helpers/devices.ts';
import { rdmaErrorOf } from '../helpers/rejection.ts';

/** Keeps the event loop from seeing events until timers of [ms] are due. */
function holdUp(ms: number): void {
  const end = performance.now() + ms;
  while (performance.now() < end);
}

interface Awaited {
  readonly id: CmId;
  /** Starts what is awaited; its event needs a turn of the event loop. */
  readonly start: (options: AwaitOptions) => Promise<unknown>;
}

describe.each(devices)('what is awaited on $name', (testDevice) => {
  const { name } = testDevice;
  let scope: CmScope;
  let kernel: Record<string, number>;
  let objects: number;

  beforeEach(() => {
    // The first use leaves some things for the next: the channel, the device of the ids.
    scope = new CmScope(testDevice);
    expect(scope.listener().device?.name).toBe(name);
    scope.close();
    kernel = resources(name);
    objects = liveObjects();
    scope = new CmScope(testDevice);
  });

  afterEach(async () => {
    scope.close();
    expect(liveObjects()).toBe(objects);
    // What siw is still connecting goes when its peer has not answered for ten seconds.
    await vi.waitFor(() => expect(resources(name)).toEqual(kernel), { timeout: 20_000, interval: 100 });
  });

  const steps: Record<string, () => Promise<Awaited>> = {
    async resolveAddr() {
      const listener = scope.listener();
      const id = scope.id();
      return { id, start: (options) => id.resolveAddr(listener.localAddress, options) };
    },
    async resolveRoute() {
      const id = scope.id();
      await id.resolveAddr(scope.listener().localAddress);
      return { id, start: (options) => id.resolveRoute(options) };
    },
    async connect() {
      const listener = scope.listener();
      listener.on('connectRequest', (request) => scope.keep(request));
      const id = await scope.resolved(listener.localAddress);
      return { id, start: (options) => id.connect({}, options) };
    },
    async accept() {
      const listener = scope.listener();
      const client = await scope.resolved(listener.localAddress);
      client.connect().catch(() => undefined);
      const id = await scope.requested(listener);
      return { id, start: (options) => id.accept({}, options) };
    },
    async disconnect() {
      const { client } = await scope.connected();
      return { id: client, start: (options) => client.disconnect(options) };
    },
  };

  describe.each(Object.keys(steps))('%s', (step) => {
    it('ends by its signal, with the reason, and closes the id', async () => {
      const { id, start } = await steps[step]!();
      const abort = new AbortController();
      const outcome = start({ signal: abort.signal });
      abort.abort(new Error('enough'));
      await expect(outcome).rejects.toThrow('enough');
      expect(id.state).toBe('closed');
    });

    it('is not started when its signal has been aborted; the id stays as it was', async () => {
      const { id, start } = await steps[step]!();
      const { state } = id;
      await expect(start({ signal: AbortSignal.abort(new Error('before')) })).rejects.toThrow('before');
      expect(id.state).toBe(state);
    });

    it('rejects with AbortError when the signal has no other reason', async () => {
      const { start } = await steps[step]!();
      const abort = new AbortController();
      const outcome = start({ signal: abort.signal });
      abort.abort();
      await expect(outcome).rejects.toMatchObject({ name: 'AbortError' });
    });

    it('ends by its time limit, and closes the id', async () => {
      const { id, start } = await steps[step]!();
      // After an immediate the loop looks at timers first, then at events.
      await setImmediate();
      const outcome = start({ timeoutMs: 1 });
      holdUp(20);
      const error = await rdmaErrorOf(() => outcome);
      expect(error.code).toBe('ETIMEDOUT');
      expect(error.message).toContain('no answer in 1 ms');
      expect(id.closed).toBe(true);
    });

    it('ends when the id is closed', async () => {
      const { id, start } = await steps[step]!();
      const outcome = rdmaErrorOf(() => start({}));
      id.close();
      expect(await outcome).toMatchObject({
        code: 'ERR_RDMA_CLOSED',
        message: 'the connection id is closed',
      });
    });

    it('is one step at a time', async () => {
      const { id, start } = await steps[step]!();
      const outcome = start({}).catch((error: unknown) => error);
      const error = await rdmaErrorOf(() => id.resolveRoute());
      expect(error.code).toBe('EALREADY');
      expect(id.closed).toBe(false);
      id.close();
      await outcome;
    });

    it.each([
      [{ timeoutMs: 0 }, /timeoutMs must be an integer from 1/],
      [{ timeoutMs: 1.5 }, /timeoutMs/],
      [{ signal: {} as AbortSignal }, /signal must be an AbortSignal, not/],
    ])('refuses %o', async (options, text) => {
      const { id, start } = await steps[step]!();
      expect((await rdmaErrorOf(() => start(options))).message).toMatch(text);
      expect(id.closed).toBe(false);
    });
  });

  it('gives up a connection at once while the device still waits for the peer', async () => {
    // siw waits ten seconds inside ibv_destroy_qp and rdma_destroy_id.
    const { id, start } = await steps.connect!();
    const outcome = rdmaErrorOf(() => start({ timeoutMs: 300 }));
    const turns = { count: 0 };
    const counter = setInterval(() => {
      turns.count += 1;
    }, 10);
    expect((await outcome).code).toBe('ETIMEDOUT');
    await sleep(100);
    clearInterval(counter);
    expect(id.closed).toBe(true);
    expect(turns.count).toBeGreaterThan(5);
    const { client } = await scope.connected();
    expect(client.state).toBe('connected');
  }, 9000);

  it('gives up many connections of which none is answered', async () => {
    const listener = scope.listener();
    listener.on('connectRequest', (request) => scope.keep(request));
    const ids = await Promise.all(Array.from({ length: 8 }, () => scope.resolved(listener.localAddress)));
    const errors = await Promise.all(ids.map((id) => rdmaErrorOf(() => id.connect({}, { timeoutMs: 200 }))));
    expect(errors.map(({ code }) => code)).toEqual(new Array(8).fill('ETIMEDOUT'));
  }, 9000);

  describe('nextRequest', () => {
    it('ends by its signal or its time limit, and the listener goes on', async () => {
      const listener = scope.listener();
      const abort = new AbortController();
      const aborted = listener.nextRequest({ signal: abort.signal });
      abort.abort(new Error('enough'));
      await expect(aborted).rejects.toThrow('enough');
      const late = await rdmaErrorOf(() => listener.nextRequest({ timeoutMs: 1 }));
      expect(late).toMatchObject({ code: 'ETIMEDOUT', syscall: 'rdma_get_request' });
      const client = await scope.resolved(listener.localAddress);
      const connecting = client.connect();
      await (await scope.requested(listener)).accept();
      await connecting;
    });

    it('ends when the listener is closed', async () => {
      const listener = scope.listener();
      const outcome = rdmaErrorOf(() => listener.nextRequest());
      listener.close();
      expect((await outcome).code).toBe('ERR_RDMA_CLOSED');
      expect((await rdmaErrorOf(() => listener.nextRequest())).code).toBe('ERR_RDMA_CLOSED');
      expect((await rdmaErrorOf(() => scope.id().nextRequest())).code).toBe('ERR_RDMA_STATE');
    });

    it('keeps what comes between two calls, as many as the backlog says', async () => {
      const listener = scope.id();
      listener.bind({ host: testDevice.host, port: 0 });
      listener.listen(2);
      const first = await rdmaErrorOf(() => listener.nextRequest({ timeoutMs: 1 }));
      expect(first.code).toBe('ETIMEDOUT');
      const refused: string[] = [];
      const clients: CmId[] = [];
      for (let i = 0; i < 3; i += 1) {
        const client = await scope.resolved(listener.localAddress!);
        // One by one: requests that come faster than they are fetched are the kernel's to drop.
        const arrived = new Promise((resolve) => listener.once('event', resolve));
        client.connect().catch((error) => refused.push(error.code));
        clients.push(client);
        await arrived;
      }
      await vi.waitFor(() => expect(refused).toEqual(['ECONNREFUSED']));
      for (let i = 0; i < 2; i += 1) await (await scope.requested(listener)).accept();
      await vi.waitFor(() => {
        expect(clients.filter(({ state }) => state === 'connected')).toHaveLength(2);
      });
    });

    it('rejects what it has kept when the listener is closed', async () => {
      const listener = scope.listener();
      await rdmaErrorOf(() => listener.nextRequest({ timeoutMs: 1 }));
      const client = await scope.resolved(listener.localAddress);
      const outcome = rdmaErrorOf(() => client.connect());
      await new Promise((resolve) => listener.once('event', resolve));
      listener.close();
      expect(['ECONNREFUSED', 'ECONNRESET']).toContain((await outcome).code);
    });
  });
});
