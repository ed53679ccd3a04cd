import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, describe, expect, it } from 'vitest';
import { KvClient } from '../../../examples/kv/client.ts';
import { Link } from '../../../examples/kv/link.ts';
import { NetClient, NetServer } from '../../../examples/kv/net.ts';
import {
  type Description,
  decodeDescription,
  decodeResponse,
  encodeRequest,
  Op,
} from '../../../examples/kv/protocol.ts';
import { KvServer, type ServerOptions } from '../../../examples/kv/server.ts';
import { CmId, RdmaError } from '../../../lib/index.ts';
import { devices } from '../helpers/devices.ts';
import { makeValue, sequenceOf } from './kv-values.ts';

const MiB = 1024 * 1024;
/** What a client gets whose rkey was taken away, and what everything else in flight then gets. */
const REFUSED = /^ERR_(RDMA_WC_REM_ACCESS_ERR|KV_LOST)$/;

const open: { close(): Promise<unknown> }[] = [];

afterEach(async () => {
  for (const one of open.splice(0).reverse()) await one.close();
});

function keep<T extends { close(): Promise<unknown> }>(one: T): T {
  open.push(one);
  return one;
}

async function until(condition: () => boolean, what: string): Promise<void> {
  const start = performance.now();
  while (!condition()) {
    if (performance.now() - start > 20_000) throw new Error(`20 s have passed and still not: ${what}`);
    await sleep(5);
  }
}

describe.each(devices)('the key-value store over $name', ({ name, host }) => {
  const serve = async (options: ServerOptions = {}): Promise<KvServer> =>
    keep(await KvServer.listen({ host, port: 0, memoryBytes: 8 * MiB, ...options }));
  const connect = async (server: KvServer, options: { now?: () => number } = {}): Promise<KvClient> =>
    keep(await KvClient.connect({ host, port: server.port, device: name, ...options }));

  /** A connection without a client's manners, and what it may read. */
  const lease = async (server: KvServer): Promise<{ link: Link; description: Description }> => {
    const link = keep(await Link.connect({ host, port: server.port }));
    const answer = new Promise<Buffer>((resolve) => link.onMessage(resolve));
    await link.send(encodeRequest({ tag: 1, op: Op.RENEW }));
    return { link, description: decodeDescription(decodeResponse(await answer).body) };
  };

  it('keeps values of any size under keys of any bytes, and READs them without the server', async () => {
    const server = await serve();
    const client = await connect(server);
    const other = await connect(server);
    const values = new Map<Buffer, Buffer>();
    for (const size of [0, 1, 33, 4095, 4096, 8000, 8200, 65_537, MiB - 1, MiB]) {
      values.set(randomBytes(1 + (size % 254)), randomBytes(size));
    }
    values.set(Buffer.alloc(0), randomBytes(10));
    values.set(Buffer.alloc(255, 0xff), randomBytes(11));
    for (const [key, value] of values) {
      expect(await client.get(key)).toBeUndefined();
      const version = await client.put(key, value);
      const first = await other.get(key);
      expect(first?.value.equals(value)).toBe(true);
      expect(first?.version).toBe(version);
      expect((await other.get(key))?.value.equals(value)).toBe(true);
    }
    // In the order of the calls, although long values have to be prepared for the server first.
    const puts = [1, 2, 3, 4, 5, 6].map((at) =>
      client.put('order', makeValue(at, at % 2 === 0 ? 8 : 300_000)),
    );
    expect(sequenceOf((await Promise.all(puts).then(() => client.get('order')))!.value)).toBe(6);
    await client.delete('order');
    // Every second GET of [other] found the value where the first had found it, with one READ.
    expect(other.counters).toMatchObject({ oneSided: 24, asked: 0, hits: 12, reads: 36 });
    expect(server.stats).toMatchObject({ gets: 0, puts: 18, clients: 2, leases: 2 });
    expect(await client.list()).toEqual([...values.keys()].sort(Buffer.compare));
    for (const key of values.keys()) {
      expect(await client.delete(key)).toBe(true);
      expect(await client.delete(key)).toBe(false);
      expect(await other.get(key)).toBeUndefined();
    }
    expect(server.service.store.stats).toMatchObject({ keys: 0, freeBytes: 8 * MiB });
  });

  it('answers GETs by messages too, with long values written into memory of the client', async () => {
    const server = await serve();
    const client = keep(await KvClient.connect({ host, port: server.port, oneSided: false }));
    for (const size of [0, 100, 8168, 8169, MiB]) {
      const value = randomBytes(size);
      await client.put('key', value);
      expect((await client.get('key'))?.value.equals(value)).toBe(true);
    }
    expect(client.counters).toMatchObject({ oneSided: 0, asked: 5, reads: 0, leases: 0 });
    expect(server.stats).toMatchObject({ leases: 0, granted: 0 });
  });

  it('refuses what is too long or does not fit, and goes on', async () => {
    const server = await serve();
    const client = await connect(server);
    await expect(client.put(Buffer.alloc(256), 'v')).rejects.toMatchObject({ code: 'ERR_KV_INVALID' });
    await expect(client.put('k', Buffer.alloc(MiB + 1))).rejects.toMatchObject({ code: 'ERR_KV_INVALID' });
    await expect(client.get(Buffer.alloc(256))).rejects.toMatchObject({ code: 'ERR_KV_INVALID' });
    const puts = Array.from({ length: 9 }, (_, at) => client.put(`${at}`, Buffer.alloc(MiB - 100, at)));
    const results = await Promise.allSettled(puts);
    expect(results.filter(({ status }) => status === 'fulfilled')).toHaveLength(8);
    const failed = results.find((result) => result.status === 'rejected');
    expect(failed?.reason).toMatchObject({
      code: 'ERR_KV_FULL',
      message: expect.stringContaining('delete keys or serve with more memory'),
    });
    await client.delete('0');
    await client.put('again', Buffer.alloc(MiB - 100));
  });

  it('READs that meet a write are torn and done again, and never give wrong bytes', async () => {
    const server = await serve();
    const { store } = server.service;
    const key = Buffer.from('key');
    let sequence = 0;
    const write = (): void => store.publish(store.prepare(key, makeValue(++sequence, 200_000)));
    write();
    const client = await connect(server);
    // The writer is in the middle of things in about every second turn of the event loop.
    let writing = true;
    const loop = (): void => {
      if (Math.random() < 0.5) write();
      if (writing) setTimeout(loop, Math.random() * 20);
    };
    loop();
    let last = 0;
    const { counters } = client;
    for (let gets = 0; gets < 2000 && (gets < 100 || counters.tornBlocks === 0); gets++) {
      const before = sequence;
      const found = sequenceOf((await client.get(key))!.value);
      expect(found).toBeGreaterThanOrEqual(Math.max(last, before));
      last = found;
    }
    writing = false;
    expect(counters.tornBlocks).toBeGreaterThan(0);
    expect(counters.oneSided).toBeGreaterThan(0);
  });

  it('clients find their keys while the table grows', async () => {
    const server = await serve({ buckets: 1 });
    const [writer, reader] = [await connect(server), await connect(server)];
    for (let at = 0; at < 100; at++) {
      await writer.put(`key ${at}`, `value ${at}`);
      const other = Math.floor(Math.random() * (at + 1));
      expect((await reader.get(`key ${other}`))?.value.toString()).toBe(`value ${other}`);
      expect(await reader.get(`key ${at + 1}`)).toBeUndefined();
    }
    expect(server.service.store.stats).toMatchObject({ keys: 100, generation: 6, buckets: 32 });
    expect(reader.counters.leases).toBeGreaterThan(3);
    expect(reader.counters.reconnects).toBe(0);
  });

  it.each([
    ['renews it', undefined, 0],
    ['and does not notice is refused, and comes back', () => 0, 1],
  ] as const)('a client whose lease is over %s', async (_, now, reconnects) => {
    const server = await serve({ leaseMs: 500 });
    const client = await connect(server, now === undefined ? {} : { now });
    await client.put('key', 'value');
    expect((await client.get('key'))?.value.toString()).toBe('value');
    await until(() => server.stats.leases === 0 && server.stats.expired > 0, 'the lease is over');
    expect(server.stats.clients).toBe(1);
    expect((await client.get('key'))?.value.toString()).toBe('value');
    expect(client.counters.leases).toBeGreaterThan(1);
    expect(client.counters.asked).toBe(0);
    expect(client.counters.reconnects > 0).toBe(reconnects > 0);
  });

  it('a lease that is used is renewed before it is over', async () => {
    const server = await serve({ leaseMs: 2000 });
    const client = await connect(server);
    await client.put('key', 'value');
    while (client.counters.leases < 4) {
      expect((await client.get('key'))?.value.toString()).toBe('value');
    }
    expect(client.counters).toMatchObject({ reconnects: 0, asked: 0 });
  });

  it('keys of a lease are refused when it is over, and nobody can write', async () => {
    const server = await serve({ leaseMs: 100 });
    const { link, description } = await lease(server);
    const { table, segments } = description;
    expect(await link.read(table, 256, (bytes) => bytes.length)).toBe(256);
    await until(() => server.stats.expired === 1, 'the lease is over');
    await expect(link.read(table, 256, () => {})).rejects.toMatchObject({
      code: expect.stringMatching(REFUSED),
    });
    const client = await connect(server);
    await client.put('key', 'value');
    for (const target of [table, segments[0]!]) {
      const intruder = await lease(server);
      const memory = target === table ? intruder.description.table : intruder.description.segments[0]!;
      const message = encodeRequest({ tag: 2, op: Op.RENEW });
      const written = intruder.link.write(Buffer.alloc(4096), memory, message);
      // iWARP says that a WRITE is complete when TCP has it; that it was refused shows in the end of the connection.
      await written.catch((error) => expect(error.code).toMatch(REFUSED));
      expect(await intruder.link.lost).toBeInstanceOf(Error);
    }
    expect((await client.get('key'))?.value.toString()).toBe('value');
    expect(client.counters).toMatchObject({ oneSided: 1, asked: 0 });
  });

  it("the keys of one client's lease are of no use to another", async () => {
    const server = await serve();
    const [one, other] = [await lease(server), await lease(server)];
    expect(one.description.table.addr).toBe(other.description.table.addr);
    await expect(other.link.read(one.description.table, 256, () => {})).rejects.toMatchObject({
      code: expect.stringMatching(REFUSED),
    });
    expect(await one.link.read(one.description.table, 256, (bytes) => bytes.length)).toBe(256);
  });

  it('takes the leases of a client that goes', async () => {
    const server = await serve();
    const client = await connect(server);
    expect(server.stats).toMatchObject({ clients: 1, leases: 1 });
    await client.close();
    await until(() => server.stats.clients === 0, 'the server noticed');
    await expect(client.get('key')).rejects.toMatchObject({ code: 'ERR_KV_LOST' });
  });

  it('says so when nobody listens, or another device leads there', async () => {
    await expect(KvClient.connect({ host, port: 7498 })).rejects.toMatchObject({ code: 'ECONNREFUSED' });
    const server = await serve();
    await expect(KvClient.connect({ host, port: server.port, device: 'no-such' })).rejects.toMatchObject({
      code: 'ERR_KV_INVALID',
      message: `${host} is reached through ${name}, not no-such; give another address or device`,
    });
  });

  it('says why it takes no more clients', async () => {
    const server = await serve({ maxClients: 1 });
    await connect(server);
    await expect(KvClient.connect({ host, port: server.port })).rejects.toMatchObject({
      code: 'ERR_KV_BUSY',
      message: '1 clients are connected, the limit',
    });
    const id = new CmId();
    await id.resolveAddr({ host, port: server.port });
    await id.resolveRoute();
    const pd = id.device!.allocPd();
    const sendCq = id.device!.createCq({ cqe: 256 });
    id.createQp({ pd, sendCq });
    await expect(id.connect({ privateData: Buffer.from('other') })).rejects.toBeInstanceOf(RdmaError);
    sendCq.close();
    await pd.close();
  });

  it('nonsense and wrong keys end the connection that they came from, and no other', async () => {
    const server = await serve();
    const client = await connect(server);
    const { link } = await lease(server);
    link.send(Buffer.from('nonsense')).catch(() => {});
    expect(await link.lost).toBeInstanceOf(Error);
    const liar = await lease(server);
    const memory = { addr: 4096, rkey: 0x1234_5678, length: 100_000 };
    liar.link.send(encodeRequest({ tag: 3, op: Op.PUT_FROM, key: Buffer.from('k'), memory })).catch(() => {});
    expect(await liar.link.lost).toBeInstanceOf(Error);
    expect(await client.list()).toEqual([]);
    expect(client.counters.reconnects).toBe(0);
  });

  it('several clients PUT and GET at once, and every value is whole and none goes back', async () => {
    const server = await serve();
    const sizes = [8, 500, 9000, 150_000];
    const clients = await Promise.all([1, 2, 3, 4].map(() => connect(server)));
    let writing = true;
    const write = async (client: KvClient, at: number): Promise<void> => {
      for (let sequence = 1; writing; sequence++) await client.put(`${at}`, makeValue(sequence, sizes[at]!));
    };
    const read = async (client: KvClient): Promise<void> => {
      const last = [0, 0, 0, 0];
      for (let gets = 0; gets < 60; gets++) {
        const at = Math.floor(Math.random() * 4);
        const stored = await client.get(`${at}`);
        if (stored === undefined) continue;
        const sequence = sequenceOf(stored.value);
        if (sequence < last[at]!) throw new Error(`${sequence} of key ${at} after ${last[at]}`);
        last[at] = sequence;
      }
    };
    const writers = clients.map(write);
    await Promise.all(clients.flatMap((client) => [read(client), read(client)]));
    writing = false;
    await Promise.all(writers);
    expect(clients.every(({ counters }) => counters.oneSided > 0)).toBe(true);
    expect(server.service.store.stats.keys).toBe(4);
  });

  it('is the same store over node:net', async () => {
    const server = await serve();
    const net = keep(await NetServer.listen(server.service, host, 7490));
    const [client, over] = [await connect(server), keep(await NetClient.connect(host, 7490))];
    for (const size of [0, 100, 20_000, MiB]) {
      const value = randomBytes(size);
      const key = Buffer.from(`${size}`);
      await (size === 100 ? client.put(key, value) : over.put(key, value));
      expect((await over.get(key))?.value.equals(value)).toBe(true);
      expect((await client.get(key))?.value.equals(value)).toBe(true);
    }
    await expect(over.put(Buffer.from('k'), Buffer.alloc(MiB + 1))).rejects.toMatchObject({
      code: 'ERR_KV_LOST',
    });
    expect(await NetClient.connect(host, 7490).then((again) => keep(again).get(Buffer.from('k')))).toBe(
      undefined,
    );
    await net.close();
    open.splice(open.indexOf(net), 1);
  });
});
