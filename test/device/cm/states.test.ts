import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { addon } from '../../../lib/addon.ts';
import { type CmId, type CmIdState, EventChannel, RdmaError } from '../../../lib/index.ts';
import { CmScope } from '../helpers/cm.ts';
import { devices } from '../helpers/devices.ts';

const TIME = { timeoutMs: 50 };

/** Every method that asks something of an id, called in a way that could work. */
function methods(scope: CmScope): Record<string, (id: CmId) => unknown> {
  const { host, pd, device } = scope;
  const channel = scope.keep(new EventChannel());
  return {
    bind: (id) => id.bind({ host, port: 0 }),
    listen: (id) => id.listen(),
    nextRequest: (id) => id.nextRequest(TIME),
    resolveAddr: (id) => id.resolveAddr({ host, port: 9 }, TIME),
    resolveRoute: (id) => id.resolveRoute(TIME),
    createQp: (id) => id.createQp({ pd, sendCq: device.createCq() }),
    connect: (id) => id.connect({}, TIME),
    connectOutside: (id) => id.connect({ qpNum: 0x77_7777 }, TIME),
    accept: (id) => id.accept({}, TIME),
    acceptOutside: (id) => id.accept({ qpNum: 0x77_7777 }, TIME),
    reject: (id) => id.reject(Buffer.from('no')),
    establish: (id) => id.establish(),
    disconnect: (id) => id.disconnect(TIME),
    notifyEstablished: (id) => id.notify('COMM_EST'),
    notifyMigrated: (id) => id.notify('PATH_MIG'),
    migrate: (id) => id.migrate(channel),
    initQpAttrInit: (id) => id.initQpAttr('INIT'),
    initQpAttrRtr: (id) => id.initQpAttr('RTR'),
    initQpAttrRts: (id) => id.initQpAttr('RTS'),
    joinMulticast: (id) => id.joinMulticast('239.5.5.5', TIME),
    setTos: (id) => id.setTos(4),
    setReuseAddr: (id) => id.setReuseAddr(false),
    setAfOnly: (id) => id.setAfOnly(true),
    setAckTimeout: (id) => id.setAckTimeout(14),
    setLocalEce: (id) => id.setLocalEce({ vendorId: 1, options: 2 }),
    getRemoteEce: (id) => id.getRemoteEce(),
    properties: (id) => [
      id.device?.name,
      id.portNum,
      id.gid,
      id.peerGid,
      id.pkey,
      id.localAddress,
      id.peerAddress,
    ],
    close: (id) => id.close(),
  };
}

/** How an id comes into each state. */
function makers(scope: CmScope, portSpace: 'TCP' | 'UDP'): Record<string, () => Promise<CmId>> {
  const { host } = scope;
  const options = { portSpace } as const;
  const resolved = async (): Promise<CmId> => {
    const id = scope.id(options);
    await id.resolveAddr({ host, port: 9 });
    await id.resolveRoute();
    return id;
  };
  const requested = async (): Promise<{ client: CmId; server: CmId; connecting: Promise<unknown> }> => {
    const listener = scope.listener(options);
    const client = await scope.resolved(listener.localAddress, options);
    const connecting = client.connect();
    connecting.catch(() => undefined);
    return { client, server: scope.keep(await listener.nextRequest()), connecting };
  };
  return {
    idle: async () => scope.id(options),
    bound: async () => {
      const id = scope.id(options);
      id.bind({ host, port: 0 });
      return id;
    },
    boundToAll: async () => {
      const id = scope.id(options);
      id.bind({ host: '0.0.0.0', port: 0 });
      return id;
    },
    listening: async () => scope.listener(options),
    addrResolved: async () => {
      const id = scope.id(options);
      await id.resolveAddr({ host, port: 9 });
      return id;
    },
    routeResolved: resolved,
    withQueuePair: async () => {
      const id = await resolved();
      scope.queuePair(id);
      return id;
    },
    connecting: async () => (await requested()).client,
    requested: async () => (await requested()).server,
    connected: async () => {
      const { client, server, connecting } = await requested();
      scope.queuePair(server);
      await Promise.all([connecting, server.accept()]);
      return client;
    },
    accepted: async () => {
      const { server, connecting } = await requested();
      scope.queuePair(server);
      await Promise.all([connecting, server.accept()]);
      return server;
    },
    withoutItsQueuePair: async () => {
      const { client, server, connecting } = await requested();
      scope.queuePair(server);
      await Promise.all([connecting, server.accept()]);
      client.qp!.close();
      return client;
    },
    closed: async () => {
      const id = scope.id(options);
      id.close();
      return id;
    },
    ...(portSpace === 'UDP'
      ? {}
      : {
          disconnected: async () => {
            const { client } = await scope.connected();
            await client.disconnect();
            return client;
          },
        }),
  };
}

const cases = devices.flatMap((device) =>
  (['TCP', 'UDP'] as const)
    .filter((portSpace) => portSpace === 'TCP' || device.name === 'rxe0')
    .map((portSpace) => ({ ...device, portSpace })),
);

describe.each(cases)('an id of the port space $portSpace on $name', ({ portSpace, ...testDevice }) => {
  let scope: CmScope;
  beforeEach(() => {
    scope = new CmScope(testDevice);
  });
  afterEach(() => scope.close());

  const states = Object.keys(makers({ host: '' } as CmScope, portSpace));
  it.each(states)('%s: every call answers, or says what is wrong', async (state) => {
    const calls = methods(scope);
    const make = makers(scope, portSpace)[state]!;
    const refused: string[] = [];
    for (const [name, call] of Object.entries(calls)) {
      const id = await make();
      const before: CmIdState = id.state;
      try {
        await call(id);
      } catch (error) {
        if (!(error instanceof RdmaError))
          throw new Error(`${name} of an id that is ${state}`, { cause: error });
        expect(error.code).toMatch(/^E/);
        expect(error.message).not.toBe('');
        refused.push(name);
        if (error.code === 'ERR_RDMA_STATE') expect(id.state).toBe(before);
      }
      id.close();
      expect(id.state).toBe('closed');
    }
    // What no state allows, and what all do.
    expect(refused).not.toContain('close');
    expect(refused).not.toContain('properties');
    if (state === 'closed') expect(refused).toHaveLength(Object.keys(calls).length - 2);
    const { client } = await scope.connected();
    expect(client.state).toBe('connected');
  });
});

describe.each(devices)('the addon itself on $name', (testDevice) => {
  const { host } = testDevice;
  const param = [new Uint8Array(0), 1, 1, 0, 1, 1, 0, 0] as const;
  const outside = [new Uint8Array(0), 255, 255, 0, 1, 1, 0x77_7777, 0] as const;
  const calls: Record<string, (id: number, channel: number) => unknown> = {
    listen: (id) => addon.listen(id, 1),
    resolveRoute: (id) => addon.resolveRoute(id, 10),
    connect: (id) => addon.connect(id, ...param),
    connectOutside: (id) => addon.connect(id, ...outside),
    accept: (id) => addon.accept(id, ...param),
    acceptOutside: (id) => addon.accept(id, ...outside),
    reject: (id) => addon.reject(id, new Uint8Array(0)),
    establish: (id) => addon.establish(id),
    disconnect: (id) => addon.disconnect(id),
    notify: (id) => addon.notify(id, 4),
    notifyUnknown: (id) => addon.notify(id, 99),
    migrate: (id, channel) => addon.migrateId(id, channel),
    setOption: (id) => addon.setOption(id, 0, 1),
    setUnknownOption: (id) => addon.setOption(id, 77, 1),
    setLocalEce: (id) => addon.setLocalEce(id, 1, 1),
    getRemoteEce: (id) => addon.getRemoteEce(id),
    initQpAttr: (id) => addon.initQpAttr(id, 2),
    initQpAttrUnknown: (id) => addon.initQpAttr(id, 99),
    joinMulticast: (id) => addon.joinMulticast(id, 1, '239.5.5.6', 0, 0, false),
    leaveMulticast: (id) => addon.leaveMulticast(id, 1),
    leaveUnknown: (id) => addon.leaveMulticast(id, 2),
    describe: (id) => addon.describeId(id),
  };
  const states: Record<string, (id: number, event: () => Promise<void>) => Promise<void>> = {
    idle: async () => undefined,
    bound: async (id) => addon.bindAddr(id, host, 0, 0),
    boundToAll: async (id) => addon.bindAddr(id, '::', 0, 0),
    listening: async (id) => {
      addon.bindAddr(id, host, 0, 0);
      addon.listen(id, 1);
    },
    addrResolved: async (id, event) => {
      addon.resolveAddr(id, host, 9, 0, 500, undefined, 0, 0);
      await event();
    },
    routeResolved: async (id, event) => {
      addon.resolveAddr(id, host, 9, 0, 500, undefined, 0, 0);
      await event();
      addon.resolveRoute(id, 500);
      await event();
    },
    closed: async (id) => {
      addon.close(id);
    },
  };

  it.each(Object.keys(states))(
    '%s: no call crashes, whatever TypeScript would have refused',
    async (state) => {
      let wake: (() => void) | undefined;
      const channel = addon.createEventChannel(() => wake?.());
      const other = addon.createEventChannel(() => undefined);
      addon.refEventChannel(channel, true);
      const event = () =>
        new Promise<void>((resolve) => {
          wake = resolve;
        });
      for (const portSpace of [0x106, 0x111]) {
        for (const [name, call] of Object.entries(calls)) {
          const id = addon.createId(channel, portSpace);
          const iwarpDatagrams = portSpace === 0x111 && testDevice.name === 'siw0';
          if (!(iwarpDatagrams && ['listening', 'routeResolved'].includes(state)))
            await states[state]!(id, event);
          const answer = await Promise.resolve()
            .then(() => call(id, other))
            .catch((error: unknown) => error);
          if (answer instanceof Error) {
            expect(answer, `${name} of an id that is ${state}`).toBeInstanceOf(RdmaError);
          }
          addon.close(id);
        }
      }
      addon.close(channel);
      addon.close(other);
    },
  );
});
