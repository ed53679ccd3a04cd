import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { Worker } from 'node:worker_threads';
import { afterEach, describe, expect, it } from 'vitest';
import {
  Access,
  type AsyncEvent,
  type Device,
  Opcode,
  openDevice,
  type RdmaError,
  type SendWr,
} from '../../../lib/index.ts';
import { devices } from '../helpers/devices.ts';
import { manualPair } from '../helpers/manual.ts';
import { connectedPair, type Pair } from '../helpers/pair.ts';

/** Takes the cable of a device away and puts it back (tools/softrdma/guest/link.sh). */
function link(device: string, state: 'down' | 'up'): void {
  execFileSync('softrdma-link', [device, state], { stdio: 'inherit' });
}

/** The first event of [type] on [device]. */
function eventOf<T extends AsyncEvent['type']>(device: Device, type: T): Promise<AsyncEvent> {
  return new Promise((resolve) => {
    device.once(type, resolve as (event: AsyncEvent) => void);
  });
}

describe.each(devices)('asynchronous events of $name', ({ name }) => {
  afterEach(() => link(name, 'up'));

  it('tells every opening of the device that its port went down and came up', async () => {
    using first = openDevice(name);
    using second = openDevice(name);
    const seen: AsyncEvent[] = [];
    first.on('event', (event) => {
      seen.push(event);
    });
    const down = Promise.all([eventOf(first, 'PORT_ERR'), eventOf(second, 'PORT_ERR')]);
    const up = Promise.all([eventOf(first, 'PORT_ACTIVE'), eventOf(second, 'PORT_ACTIVE')]);
    link(name, 'down');
    expect(await down).toEqual([
      { type: 'PORT_ERR', device: first, port: 1 },
      { type: 'PORT_ERR', device: second, port: 1 },
    ]);
    expect(first.queryPort().state).toBe('DOWN');
    link(name, 'up');
    expect(await up).toEqual([
      { type: 'PORT_ACTIVE', device: first, port: 1 },
      { type: 'PORT_ACTIVE', device: second, port: 1 },
    ]);
    expect(first.queryPort().state).toBe('ACTIVE');
    expect(seen.map(({ type }) => type).filter((type) => type.startsWith('PORT_'))).toEqual([
      'PORT_ERR',
      'PORT_ACTIVE',
    ]);
  });

  it('is silent after close and after off', async () => {
    using open = openDevice(name);
    const closed = openDevice(name);
    const fail = () => {
      throw new Error('a listener that should be deaf');
    };
    closed.on('event', fail);
    open.on('PORT_ERR', fail).off('PORT_ERR', fail);
    const down = eventOf(open, 'PORT_ERR');
    closed.close();
    link(name, 'down');
    await down;
  });
});

const netdevs = { rxe0: 'rxe-net', siw0: 'siw-net' };

describe.each(devices)('events of what $name is addressed by', ({ name }) => {
  const netdev = netdevs[name];
  const ip = (...args: string[]) => execFileSync('ip', args, { stdio: 'inherit' });

  it(`come as ${name === 'rxe0' ? 'GID_CHANGE' : 'LID_CHANGE'}`, async () => {
    using device = openDevice(name);
    if (name === 'rxe0') {
      const before = device.queryGidTable().length;
      let changed = eventOf(device, 'GID_CHANGE');
      ip('addr', 'add', '10.0.1.77/24', 'dev', netdev);
      expect(await changed).toEqual({ type: 'GID_CHANGE', device, port: 1 });
      expect(device.queryGidTable().map(({ text }) => text)).toContain('::ffff:10.0.1.77');
      changed = eventOf(device, 'GID_CHANGE');
      ip('addr', 'del', '10.0.1.77/24', 'dev', netdev);
      await changed;
      expect(device.queryGidTable()).toHaveLength(before);
    } else {
      const address = readFileSync(`/sys/class/net/${netdev}/address`, 'utf8').trim();
      let changed = eventOf(device, 'LID_CHANGE');
      ip('link', 'set', netdev, 'address', '02:00:00:02:00:99');
      expect(await changed).toEqual({ type: 'LID_CHANGE', device, port: 1 });
      changed = eventOf(device, 'LID_CHANGE');
      ip('link', 'set', netdev, 'address', address);
      await changed;
    }
  });
});

describe.each(devices)('events of queue pairs of $name', ({ name }) => {
  const rxe = name === 'rxe0';

  /** Does [provoke] and expects [type] of the server's queue pair, at the queue pair first and then at the device. */
  async function expectOfServer(
    type: 'QP_ACCESS_ERR' | 'QP_REQ_ERR' | 'QP_FATAL',
    provoke: (pair: Pair) => Promise<SendWr>,
  ): Promise<void> {
    const pair = await connectedPair(name);
    const { device, server, client } = pair;
    const order: string[] = [];
    client.qp.on('event', ({ type: wrong }) => order.push(`client ${wrong}`));
    server.qp.on(type, ({ qp }) => order.push(`qp ${qp === server.qp}`));
    const event = new Promise<AsyncEvent>((resolve) => {
      device.on(type, (each) => {
        order.push('device');
        resolve(each);
      });
    });
    const { mr } = await pair.memory(64);
    // In flight on the queue pair that fails.
    const receive = server.qp.recv({ sges: [{ addr: mr.addr, length: 16, lkey: mr.lkey }] }).then(
      () => 'received',
      (error: RdmaError) => error.code,
    );
    const sent = client.qp.send(await provoke(pair)).catch(() => undefined);
    expect(await event).toEqual({ type, device, qp: server.qp });
    expect(order).toEqual(['qp true', 'device']);
    expect(server.qp.state).toBe('ERR');
    expect(await receive).toMatch(/^ERR_RDMA_WC_(WR_FLUSH|LOC_LEN|LOC_QP_OP|REM_ACCESS)_ERR$/);
    await sent;
    await pair.close();
  }

  it('tell the target of an RDMA WRITE outside its region: QP_ACCESS_ERR', async () => {
    await expectOfServer('QP_ACCESS_ERR', async ({ memory }) => {
      const { mr } = await memory(4096);
      return {
        opcode: Opcode.RDMA_WRITE,
        sges: [{ addr: mr.addr, length: 4096, lkey: mr.lkey }],
        remoteAddr: mr.addr + 100,
        rkey: mr.rkey,
      };
    });
  });

  it('tell the target of an RDMA WRITE without the right to write: QP_ACCESS_ERR', async () => {
    await expectOfServer('QP_ACCESS_ERR', async ({ memory }) => {
      const { mr } = await memory(64, Access.LOCAL_WRITE | Access.REMOTE_READ);
      return {
        opcode: Opcode.RDMA_WRITE,
        sges: [{ addr: mr.addr, length: 64, lkey: mr.lkey }],
        remoteAddr: mr.addr,
        rkey: mr.rkey,
      };
    });
  });

  it(`tell the target of an RDMA READ outside its region: ${rxe ? 'QP_ACCESS_ERR' : 'QP_REQ_ERR'}`, async () => {
    await expectOfServer(rxe ? 'QP_ACCESS_ERR' : 'QP_REQ_ERR', async ({ memory }) => {
      const { mr } = await memory(4096);
      return {
        opcode: Opcode.RDMA_READ,
        sges: [{ addr: mr.addr, length: 4096, lkey: mr.lkey }],
        remoteAddr: mr.addr + 100,
        rkey: mr.rkey,
      };
    });
  });

  if (!rxe) {
    it('tell the receiver of a message that is longer than its buffer: QP_FATAL', async () => {
      await expectOfServer('QP_FATAL', async ({ memory }) => {
        const { mr } = await memory(4096);
        return {
          opcode: Opcode.SEND,
          sges: [{ addr: mr.addr, length: 4096, lkey: mr.lkey }],
        };
      });
    });
  } else {
    it('tell that the send queue has drained: SQ_DRAINED', async () => {
      const { device, a, close } = manualPair();
      const drained = eventOf(device, 'SQ_DRAINED');
      a.modify({ state: 'SQD', enSqdAsyncNotify: true });
      expect(await drained).toEqual({ type: 'SQ_DRAINED', device, qp: a });
      expect(a.closed).toBe(false);
      close();
    });
  }

  it(`tell that a queue pair in ERR has taken its last shared receive: ${rxe ? 'QP_LAST_WQE_REACHED' : 'no'}`, async () => {
    using device = openDevice(name);
    const pd = device.allocPd();
    const srq = pd.createSrq({ maxWr: 4 });
    const qp = pd.createQp({ sendCq: device.createCq(), srq });
    const seen: AsyncEvent[] = [];
    device.on('event', (event) => 'qp' in event && seen.push(event));
    if (rxe) {
      qp.toInit();
      const last = eventOf(device, 'QP_LAST_WQE_REACHED');
      qp.toError();
      expect(await last).toEqual({ type: 'QP_LAST_WQE_REACHED', device, qp });
    } else {
      qp.toError();
      await new Promise((resolve) => setTimeout(resolve, 50));
      expect(seen).toEqual([]);
    }
  });

  it('do not reach a listener of another queue pair, nor one of a closed queue pair', async () => {
    const first = await connectedPair(name);
    const second = await connectedPair(name);
    const wrong: string[] = [];
    second.server.qp.on('event', ({ type }) => wrong.push(type));
    first.server.qp.on('event', ({ type }) => wrong.push(type));
    const { mr } = await first.memory(64);
    const sent = first.client.qp
      .send({
        opcode: Opcode.RDMA_WRITE,
        sges: [{ addr: mr.addr, length: 64, lkey: mr.lkey }],
        remoteAddr: mr.addr + 64,
        rkey: mr.rkey,
      })
      .catch(() => undefined);
    await first.close();
    await sent;
    await second.close();
    expect(wrong).toEqual([]);
  });
});

describe.each(devices)('events of $name', ({ name }) => {
  afterEach(() => link(name, 'up'));

  it('reach every thread that has the device open', async () => {
    const worker = new Worker(
      `import(${JSON.stringify(new URL('../../../dist/lib/index.js', import.meta.url).href)}).then(({ openDevice }) => {
         const { parentPort, workerData } = require('node:worker_threads');
         const device = openDevice(workerData);
         device.once('PORT_ERR', ({ port }) => {
           parentPort.postMessage(port);
           device.close();
         });
         parentPort.postMessage('ready');
         setTimeout(() => {}, 20000).unref();
         parentPort.once('message', () => {});
       });`,
      { eval: true, workerData: name },
    );
    expect(await once(worker, 'message')).toEqual(['ready']);
    using device = openDevice(name);
    const heard = once(worker, 'message');
    const here = eventOf(device, 'PORT_ERR');
    link(name, 'down');
    expect(await heard).toEqual([1]);
    await here;
    await worker.terminate();
  });

  it('go on to other listeners when one throws', async () => {
    using device = openDevice(name);
    const uncaught = process.listeners('uncaughtException');
    process.removeAllListeners('uncaughtException');
    const thrown = once(process, 'uncaughtException');
    device.on('PORT_ERR', () => {
      throw new Error('a listener that throws');
    });
    const heard = new Promise<AsyncEvent>((resolve) => {
      // The cable of an earlier test may just have come up.
      device.on('event', (event) => event.type === 'PORT_ERR' && resolve(event));
    });
    link(name, 'down');
    expect((await heard).type).toBe('PORT_ERR');
    const [error] = await thrown;
    for (const listener of uncaught) process.on('uncaughtException', listener);
    expect((error as Error).message).toBe('a listener that throws');
  });
});
