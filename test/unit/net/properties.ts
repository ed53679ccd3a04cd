/** What must hold for whatever a peer sends: run a few times by the suite, and for minutes by fuzz.ts. */
import fc from 'fast-check';
import { RdmaError } from '../../../lib/errors.ts';
import type { ConnData } from '../../../lib/net/wire/index.ts';
import {
  CONN_DATA_BYTES,
  checkMessage,
  contentOf,
  encodeConnData,
  iomapSize,
  kindOf,
  MessageType,
  message,
  parseConnData,
  putSge,
  SGE_BYTES,
  takeSge,
} from '../../../lib/net/wire/index.ts';
import { type FakeEnd, fakeEnd, join } from './fabric.ts';

const u32 = fc.nat({ max: 0xffff_ffff });

function protocolErrorOrNothing(action: () => void): boolean {
  try {
    action();
    return true;
  } catch (error) {
    if (error instanceof RdmaError && error.code === 'EPROTO') return false;
    throw error;
  }
}

function ensure(condition: boolean, text: string): void {
  if (!condition) throw new Error(text);
}

/** Bytes that are almost connection data, so that every check is reached. */
const almostConnData = fc
  .record({
    head: fc.tuple(fc.constantFrom(0, 1, 1, 1, 2, 255), fc.nat(255), fc.nat(255), fc.nat(255)),
    rest: fc.uint8Array({ minLength: 36, maxLength: 60 }),
    high: fc.boolean(),
    entries: fc.option(u32),
    sane: fc.boolean(),
  })
  .map(({ head, rest, high, entries, sane }) => {
    const bytes = Uint8Array.from([...head, ...rest]);
    const view = new DataView(bytes.buffer);
    if (sane) bytes[1] = (bytes[1] as number) & 3;
    if (!high) {
      view.setUint16(8, 0);
      view.setUint16(24, 0);
    }
    if (entries !== null) view.setUint32(20, entries);
    else if (sane) view.setUint32(20, 2);
    return bytes;
  });

const connData: fc.Arbitrary<ConnData> = fc.record({
  bigEndian: fc.boolean(),
  credits: fc.integer({ min: 1, max: 0xffff }),
  iomapEntries: fc.nat({ max: 32512 }).map(iomapSize),
  targetSgl: fc.record({
    addr: fc.nat({ max: 2 ** 47 }),
    key: u32,
    length: fc.integer({ min: 2, max: 1024 }),
  }),
  dataBuffer: fc.record({
    addr: fc.nat({ max: 2 ** 47 }),
    key: u32,
    length: fc.integer({ min: 1, max: 2 ** 32 - 1 }),
  }),
});

const anyConnData = fc.property(fc.oneof(fc.uint8Array({ maxLength: 200 }), almostConnData), (bytes) => {
  protocolErrorOrNothing(() => {
    const data = parseConnData(bytes);
    ensure(bytes.length >= CONN_DATA_BYTES, 'too short');
    ensure(data.credits >= 1 && data.credits <= 0xffff, 'credits');
    ensure(data.targetSgl.length >= 2 && data.targetSgl.length <= 1024, 'entries');
    ensure(data.dataBuffer.length >= 1, 'length');
    ensure(data.iomapEntries >= 0 && data.iomapEntries <= 32512, 'iomap');
    for (const { addr, length } of [data.targetSgl, data.dataBuffer]) {
      ensure(Number.isSafeInteger(addr + length), 'address');
    }
  });
});

const connDataRoundTrip = fc.property(connData, (data) => {
  const again = parseConnData(encodeConnData(data));
  ensure(JSON.stringify(again) === JSON.stringify(data), 'what is encoded is parsed');
});

const anyMessage = fc.property(u32, fc.nat({ max: 300 }), (msg, entries) => {
  ensure(message(kindOf(msg), contentOf(msg)) === msg, 'a message is its kind and content');
  protocolErrorOrNothing(() => {
    checkMessage(msg, entries);
    ensure([0, 4, 6, 7].includes(kindOf(msg)), 'kind');
  });
});

const anySge = fc.property(
  fc.uint8Array({ minLength: SGE_BYTES, maxLength: SGE_BYTES }),
  fc.boolean(),
  (bytes, little) => {
    const entry = { addr: 0, key: 0, length: 0 };
    const view = new DataView(bytes.buffer, bytes.byteOffset, SGE_BYTES);
    protocolErrorOrNothing(() => {
      takeSge(view, 0, little, entry);
      ensure(Number.isSafeInteger(entry.addr + entry.length), 'address');
      const copy = new DataView(new ArrayBuffer(SGE_BYTES));
      putSge(copy, 0, little, entry.addr, entry.key, entry.length);
      for (let i = 0; i < SGE_BYTES; i += 1) ensure(copy.getUint8(i) === bytes[i], 'round trip');
    });
  },
);

const sizes = fc.record({
  sendBytes: fc.integer({ min: 8, max: 700 }),
  receiveBytes: fc.integer({ min: 4, max: 350 }).map((half) => 2 * half),
  credits: fc.integer({ min: 16, max: 40 }),
  sends: fc.integer({ min: 32, max: 64 }),
});

const wholeSizes = sizes.map((some) => ({ ...some, receives: some.credits + 16, iomapEntries: 0 }));

/** Something that happens, as two numbers that the test makes sense of. */
const steps = fc.array(fc.tuple(fc.nat({ max: 9 }), fc.nat({ max: 2000 })), { maxLength: 200 });

const tick = (): Promise<void> => new Promise((resolve) => queueMicrotask(resolve));

/** One direction of a stream: what is written at one end must be read at the other, in order. */
class Flow {
  readonly #from: FakeEnd;
  readonly #to: FakeEnd;
  #written = 0;
  #read = 0;

  constructor(from: FakeEnd, to: FakeEnd) {
    this.#from = from;
    this.#to = to;
  }

  write(length: number): void {
    const bytes = Uint8Array.from({ length }, (_, i) => (this.#written + i) % 251);
    this.#written += this.#from.channel.write(bytes, 0);
    this.#from.channel.kick();
  }

  read(limit: number): void {
    const { channel } = this.#to;
    const bytes = channel.peek(limit);
    for (const byte of bytes) {
      ensure(byte === this.#read % 251, `byte ${this.#read} is ${byte}`);
      this.#read += 1;
    }
    channel.consume(bytes.length);
    channel.kick();
  }

  get complete(): boolean {
    return this.#read === this.#written;
  }
}

/** Two honest ends in any order of events: bytes arrive in order, and everything arrives in the end. */
const honestEnds = fc.asyncProperty(
  wholeSizes,
  wholeSizes,
  fc.boolean(),
  steps,
  async (one, two, bySend, list) => {
    const a = await fakeEnd(one, bySend, false);
    const b = await fakeEnd(two, bySend, true);
    join(a, b);
    const there = new Flow(a, b);
    const back = new Flow(b, a);
    for (const [what, value] of list) {
      if (what < 2) there.write(value);
      else if (what < 4) back.write(value);
      else if (what === 4) there.read(value + 1);
      else if (what === 5) back.read(value + 1);
      else if (what === 6) await tick();
      else for (let i = value % 7; i >= 0; i -= 1) (what === 7 ? a : b).qp.carry();
    }
    a.channel.shutdown();
    b.channel.shutdown();
    for (
      let i = 0;
      i < 20_000 && !(there.complete && back.complete && a.channel.idle && b.channel.idle);
      i += 1
    ) {
      while (a.qp.carry() || b.qp.carry());
      await tick();
      there.read(4096);
      back.read(4096);
      await tick();
    }
    ensure(a.failures.length + b.failures.length === 0, String(a.failures[0] ?? b.failures[0]));
    ensure(there.complete && back.complete, 'a deadlock');
    ensure(a.channel.readEnded && b.channel.readEnded, 'the ends are known');
  },
);

const hostileMessage = fc.oneof(
  u32,
  fc
    .tuple(fc.constantFrom(0, 4, 6, 7), fc.nat({ max: 400 }))
    .map(([kind, content]) => message(kind, content)),
);
const hostileStep = fc.record({
  msg: hostileMessage,
  written: fc.oneof(fc.constant(-1), fc.constantFrom(0, 4, 16), fc.nat({ max: 400 })),
  opcode: fc.constantFrom(128, 129, 129, 129),
  flags: fc.constantFrom(0, 2, 2, 2),
  sgl: fc.option(fc.uint8Array({ minLength: 32, maxLength: 32 })),
  read: fc.nat({ max: 300 }),
  write: fc.nat({ max: 300 }),
});

/** A peer that sends anything: either the connection goes on within its bounds, or it fails with EPROTO, once. */
const hostilePeer = fc.asyncProperty(
  wholeSizes,
  connData,
  fc.boolean(),
  fc.array(hostileStep, { maxLength: 60 }),
  async (some, peer, bySend, list) => {
    const end = await fakeEnd(some, bySend, true);
    end.channel.setPeer(peer);
    end.channel.start();
    const { memory } = end.channel;
    let arrived = 0;
    let read = 0;
    for (const { msg, written, opcode, flags, sgl, read: want, write } of list) {
      if (end.failures.length > 0 || end.qp.receives.length === 0) break;
      if (sgl !== null) {
        for (let i = 0; i < sgl.length; i += 1) memory.sgl.setUint8(i, sgl[i] as number);
      }
      const word = new Uint8Array(4);
      new DataView(word.buffer).setUint32(0, msg, !peer.bigEndian);
      const bytes = written === -1 ? (bySend ? 4 : contentOf(msg)) : written;
      end.qp.receive(opcode, bytes, flags, msg, bySend ? word : undefined);
      if (end.failures.length === 0 && kindOf(msg) === MessageType.DATA) arrived += contentOf(msg);
      ensure(end.channel.available === arrived - read, 'what can be read is what has come');
      ensure(end.channel.available <= memory.receiveBytes, 'no more than the buffer');
      const view = end.channel.peek(want);
      ensure(view.buffer === memory.receive.buffer, 'from the buffer');
      read += view.length;
      end.channel.consume(view.length);
      end.channel.write(new Uint8Array(write), 0);
      end.channel.kick();
      await tick();
      for (const request of end.qp.wire.splice(0)) {
        end.qp.sendFree += 1;
        request.retired(0, 0, 0, 0);
      }
    }
    await tick();
    ensure(end.failures.length <= 1, 'one failure at most');
    for (const failure of end.failures) {
      ensure(failure instanceof RdmaError && failure.code === 'EPROTO', `${failure.stack}`);
    }
  },
);

/** Name and property of each. */
export const properties: readonly [string, fc.IRawProperty<unknown, boolean>][] = [
  ['connection data of any bytes', anyConnData],
  ['connection data are what was encoded', connDataRoundTrip],
  ['any message', anyMessage],
  ['any entry of a target SGL', anySge],
  ['two honest ends, in any order', honestEnds],
  ['a hostile peer', hostilePeer],
] as unknown as readonly [string, fc.IRawProperty<unknown, boolean>][];
