import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { formatBytes, formatLine, formatPanel } from '../../../examples/kv/display.ts';
import { KvError, Status } from '../../../examples/kv/errors.ts';
import { type Exposed, Lease } from '../../../examples/kv/lease.ts';
import {
  checkHello,
  DEPTH,
  decodeDescription,
  decodeKeys,
  decodeRequest,
  decodeResponse,
  encodeDescription,
  encodeHello,
  encodeKeys,
  encodeRequest,
  encodeResponse,
  MAX_INLINE_GET,
  Op,
} from '../../../examples/kv/protocol.ts';
import { Service } from '../../../examples/kv/service.ts';
import { Session, type SessionLink } from '../../../examples/kv/session.ts';
import { Store } from '../../../examples/kv/store.ts';

const bytes = (maxLength: number) => fc.uint8Array({ maxLength }).map((array) => Buffer.from(array));
const u32 = fc.nat({ max: 0xffff_ffff });
const memory = fc.record({
  addr: fc.nat({ max: Number.MAX_SAFE_INTEGER }),
  rkey: u32,
  length: fc.integer({ min: 1, max: 1024 * 1024 }),
});

describe('messages', () => {
  it('say after decoding what they said before', () => {
    fc.assert(
      fc.property(u32, bytes(255), bytes(5000), memory, (tag, key, value, source) => {
        const none = { value: Buffer.alloc(0), memory: undefined, from: 0 };
        for (const request of [
          { ...none, tag, op: Op.PUT, key, value },
          { ...none, tag, op: Op.PUT_FROM, key, memory: source },
          { ...none, tag, op: Op.GET, key, memory: source },
          { ...none, tag, op: Op.GET, key },
          { ...none, tag, op: Op.LIST, key: Buffer.alloc(0), from: tag },
        ]) {
          expect(decodeRequest(encodeRequest(request))).toEqual(request);
        }
        const response = { tag, status: 3, length: tag, version: source.addr, body: value };
        expect(decodeResponse(encodeResponse(response))).toEqual(response);
      }),
    );
  });

  it('that are anything else are refused in words', () => {
    const refuse = (decode: (message: Buffer) => unknown, message: Buffer): void => {
      try {
        decode(message);
      } catch (error) {
        expect(error).toBeInstanceOf(KvError);
        expect((error as KvError).code).toBe('ERR_KV_PROTOCOL');
      }
    };
    fc.assert(
      fc.property(bytes(200), (message) => {
        for (const decode of [decodeRequest, decodeResponse, decodeDescription, decodeKeys, checkHello]) {
          refuse(decode, message);
        }
      }),
      { numRuns: 2000 },
    );
    const request = encodeRequest({ tag: 1, op: Op.PUT, key: Buffer.from('k'), value: Buffer.from('v') });
    expect(() => decodeRequest(request.subarray(0, -1))).toThrow(
      /a request of 26 bytes came in a message of 25/,
    );
    expect(() => decodeRequest(Buffer.alloc(24))).toThrow(/no operation 0/);
    const long = encodeRequest({ tag: 1, op: Op.GET, memory: { addr: 1, rkey: 1, length: 1024 * 1024 + 1 } });
    expect(() => decodeRequest(long)).toThrow(/1048577 bytes/);
    expect(() => checkHello(Buffer.alloc(8))).toThrow(/another program/);
    expect(() =>
      checkHello(Buffer.concat([encodeHello().subarray(0, 4), Buffer.from([9, 0, 0, 0])])),
    ).toThrow(/speaks version 9/);
  });

  it('carry descriptions and lists of keys', () => {
    fc.assert(
      fc.property(fc.array(memory, { maxLength: 20 }), memory, u32, (segments, table, generation) => {
        const description = {
          leaseMs: 1,
          generation,
          seed: 3,
          table: { ...table, length: 512 },
          segments,
        };
        expect(decodeDescription(encodeDescription(description))).toEqual(description);
      }),
    );
    const keys = Array.from({ length: 100 }, (_, at) => Buffer.alloc(at * 2, at));
    const got: Buffer[] = [];
    while (got.length < keys.length) got.push(...decodeKeys(encodeKeys(keys, got.length)));
    expect(got).toEqual(keys);
  });
});

const turn = () => new Promise((resolve) => setImmediate(resolve));

/** Exposes memory to nobody, and remembers it. */
class FakeExposer {
  readonly exposed = new Set<ArrayBuffer>();
  #rkey = 0;

  readonly expose = async (buffer: ArrayBuffer): Promise<Exposed> => {
    this.exposed.add(buffer);
    this.#rkey++;
    return {
      descriptor: { addr: 4096, rkey: this.#rkey, length: buffer.byteLength },
      revoke: async () => void this.exposed.delete(buffer),
    };
  };
}

function fill(store: Store, count: number): void {
  for (let at = 0; at < count; at++) store.publish(store.prepare(Buffer.from(`${at}`), Buffer.from('v')));
}

describe('a lease', () => {
  it('is taken away when it is over, and not before; renewing keeps the keys', async () => {
    const store = new Store({ memoryBytes: 4096 });
    const counters = { granted: 0, expired: 0 };
    const exposer = new FakeExposer();
    const lease = new Lease(exposer.expose, 1000, counters);
    let now = 0;
    const grant = () =>
      lease.grant(
        () => store.published,
        () => now,
      );
    const first = await grant();
    now = 900;
    expect(await grant()).toEqual(first);
    now = 2300;
    lease.sweep(now);
    expect(lease.running).toBe(true);
    lease.sweep(2400);
    expect(lease.running).toBe(false);
    expect(exposer.exposed.size).toBe(0);
    lease.sweep(9999);
    await turn();
    expect(counters).toEqual({ granted: 2, expired: 1 });
    const second = await grant();
    expect(second.table.rkey).not.toBe(first.table.rkey);
    await lease.end();
    expect(exposer.exposed.size).toBe(0);
  });

  it('keeps a table that was replaced for one more lease', async () => {
    const store = new Store({ memoryBytes: 64 * 1024, buckets: 1 });
    const exposer = new FakeExposer();
    const lease = new Lease(exposer.expose, 1000, { granted: 0, expired: 0 });
    let now = 0;
    const grant = () =>
      lease.grant(
        () => store.published,
        () => now,
      );
    await grant();
    const old = store.published.table.memory;
    fill(store, 20);
    const { generation } = await grant();
    expect(generation).toBeGreaterThan(1);
    now = 999;
    lease.sweep(now);
    expect(exposer.exposed.has(old)).toBe(true);
    await grant();
    now = 1000;
    lease.sweep(now);
    expect(exposer.exposed.has(old)).toBe(false);
    expect(exposer.exposed.has(store.published.table.memory)).toBe(true);
  });
});

/** A connection whose READs take as long as the test wants. */
class FakeLink implements SessionLink {
  readonly peer = 'test';
  readonly sent: Buffer[] = [];
  readonly reads: (() => void)[] = [];
  readonly lost: Promise<Error>;
  #end!: (reason: Error) => void;
  #handler: (message: Buffer) => void = () => {};

  constructor() {
    this.lost = new Promise((resolve) => {
      this.#end = resolve;
    });
  }

  onMessage(handler: (message: Buffer) => void): void {
    this.#handler = handler;
  }

  receive(message: Buffer): void {
    this.#handler(message);
  }

  async send(message: Buffer): Promise<void> {
    this.sent.push(message);
  }

  async read<T>({ rkey }: { rkey: number }, length: number, use: (read: Buffer) => T): Promise<T> {
    await new Promise<void>((resolve) => this.reads.push(resolve));
    return use(Buffer.alloc(length, rkey));
  }

  write(value: Buffer, _remote: object, message: Buffer): Promise<void> {
    this.sent.push(value);
    return this.send(message);
  }

  async expose(): Promise<never> {
    throw new Error('not here');
  }

  async close(reason: Error = new Error('closed')): Promise<void> {
    this.#end(reason);
  }
}

describe('a session', () => {
  const start = async () => {
    const service = await Service.open({ memoryBytes: 4 * 1024 * 1024 });
    const link = new FakeLink();
    const said: string[] = [];
    const session = Session.start(link, {
      service,
      leaseMs: 1000,
      counters: { granted: 0, expired: 0 },
      log: (text) => said.push(text),
    });
    return { service, link, said, session };
  };
  const key = Buffer.from('k');
  const source = (rkey: number, length = 20_000) => ({ addr: 1, rkey, length });

  it('carries out requests for one key in their order, and others meanwhile', async () => {
    const { service, link } = await start();
    link.receive(encodeRequest({ tag: 1, op: Op.PUT_FROM, key, memory: source(1) }));
    link.receive(encodeRequest({ tag: 2, op: Op.PUT, key, value: Buffer.from('second') }));
    link.receive(encodeRequest({ tag: 3, op: Op.GET, key }));
    link.receive(encodeRequest({ tag: 4, op: Op.PUT, key: Buffer.from('other'), value: Buffer.from('x') }));
    await turn();
    expect(link.sent.map((message) => decodeResponse(message).tag)).toEqual([4]);
    expect(service.get(key)).toBeUndefined();
    link.reads.shift()!();
    await turn();
    const responses = link.sent.map((message) => decodeResponse(message));
    expect(responses.map(({ tag }) => tag)).toEqual([4, 1, 2, 3]);
    expect(responses.at(-1)?.body.toString()).toBe('second');
  });

  it('whose client dies in a PUT stores nothing', async () => {
    const { service, link, session } = await start();
    link.read = async () => {
      throw new Error('the peer died');
    };
    link.receive(encodeRequest({ tag: 1, op: Op.PUT_FROM, key, memory: source(1) }));
    expect((await session.ended()).message).toBe('the peer died');
    expect(service.store.stats).toMatchObject({ keys: 0, freeBytes: 4 * 1024 * 1024 });
    expect(link.sent).toEqual([]);
  });

  it('tells how much memory a long value needs, and writes it there', async () => {
    const { service, link } = await start();
    const value = Buffer.alloc(MAX_INLINE_GET + 1, 9);
    await service.put(key, value);
    for (const room of [undefined, source(1, value.length - 1)]) {
      link.receive(encodeRequest({ tag: 1, op: Op.GET, key, ...(room ? { memory: room } : {}) }));
      await turn();
      expect(decodeResponse(link.sent.shift()!)).toMatchObject({
        status: Status.SINK,
        length: value.length,
      });
    }
    link.receive(encodeRequest({ tag: 2, op: Op.GET, key, memory: source(1, value.length) }));
    await turn();
    expect(link.sent[0]).toEqual(value);
    expect(decodeResponse(link.sent[1]!)).toMatchObject({ tag: 2, status: Status.OK, length: value.length });
  });

  it('answers nonsense with the reason and ends', async () => {
    const { link, said, session } = await start();
    link.receive(Buffer.from('nonsense'));
    link.receive(encodeRequest({ tag: 1, op: Op.PUT, key, value: Buffer.from('late') }));
    expect(await session.ended()).toMatchObject({ code: 'ERR_KV_PROTOCOL' });
    expect(link.sent.map((message) => decodeResponse(message))).toMatchObject([
      {
        tag: 0,
        status: Status.PROTOCOL,
        body: Buffer.from('a request of 8 bytes is shorter than its header'),
      },
    ]);
    expect(said).toEqual(['test: refused: a request of 8 bytes is shorter than its header']);
  });

  it('refuses more requests than there is room for', async () => {
    const { link, session } = await start();
    for (let tag = 0; tag < DEPTH + 2; tag++) {
      link.receive(encodeRequest({ tag, op: Op.PUT_FROM, key, memory: source(tag) }));
    }
    expect(await Promise.race([link.lost, session.ended()])).toMatchObject({
      code: 'ERR_KV_PROTOCOL',
      message: `more than ${DEPTH} requests without an answer`,
    });
  });
});

describe('the display', () => {
  it('has columns as wide as the terminal', () => {
    const figures = { clients: 3, gets: 12345, used: '1 MiB of 64 MiB' };
    expect(formatLine(figures)).toBe('clients 3, gets 12345, used 1 MiB of 64 MiB');
    expect(formatPanel(figures, 60)).toEqual(['clients 3              gets 12345', 'used 1 MiB of 64 MiB']);
    expect(formatPanel(figures, 10)).toHaveLength(3);
    expect([0, 1023, 1024, 1536 * 1024, 5 * 2 ** 40].map(formatBytes)).toEqual([
      '0 B',
      '1023 B',
      '1 KiB',
      '1.5 MiB',
      '5120 GiB',
    ]);
  });
});
