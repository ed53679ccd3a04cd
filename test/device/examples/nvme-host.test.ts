/** The NVMe target of examples/, under a host that says what no kernel says. */
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { MemoryBackend } from '../../../examples/nvme-target/memory-backend.ts';
import { Target } from '../../../examples/nvme-target/target.ts';
import { DISCOVERY_NQN } from '../../../examples/nvme-target/wire/connect.ts';
import { Status } from '../../../examples/nvme-target/wire/status.ts';
import { liveObjects } from '../../../lib/index.ts';
import { devices } from '../helpers/devices.ts';
import { rdmaErrorOf } from '../helpers/rejection.ts';
import { type Completion, connectData, queueRequest, TestQueue } from './nvme/host.ts';

const NQN = 'nqn.2026-11.org.node-rdma:tested';
const HOST = 'nqn.2026-11.org.node-rdma:host';
const BLOCKS = 1024;
const BLOCK = 4096;
const IDENTIFY = 0x06;
const GET_LOG_PAGE = 0x02;
const [FLUSH, WRITE, READ, WRITE_ZEROES, MANAGE] = [0x00, 0x01, 0x02, 0x08, 0x09];

const failed = (status: number, more: Partial<Completion> = {}) =>
  expect.objectContaining({ status, doNotRetry: true, ...more });
const succeeded = (more: Partial<Completion> = {}) =>
  expect.objectContaining({ status: Status.SUCCESS, ...more });

describe.each(devices)('the NVMe target over $name', ({ host }) => {
  let target: Target;
  let port: number;
  const open: TestQueue[] = [];
  const errors: Error[] = [];

  beforeAll(() => {
    target = new Target({ depth: 64, ioQueues: 4, onError: (error) => errors.push(error) });
    const subsystem = target.addSubsystem({ nqn: NQN });
    subsystem.addNamespace(new MemoryBackend(BLOCKS * BLOCK), BLOCK);
    target.addSubsystem({ nqn: `${NQN}-closed`, allowedHosts: [`${HOST}-friend`] });
    ({ port } = target.listen(host, 0));
  });
  afterEach(async () => {
    for (const queue of open.splice(0)) await queue.close();
    expect(errors).toEqual([]);
  });
  afterAll(() => target.close());

  async function queue(qid = 0, entries = qid === 0 ? 32 : 64): Promise<TestQueue> {
    const made = await TestQueue.open(host, port, queueRequest(qid, entries));
    open.push(made);
    return made;
  }

  /** A controller that is ready, and its admin queue. */
  async function admin(nqn = NQN): Promise<{ queue: TestQueue; cntlid: number }> {
    const made = await queue();
    const { status, result } = await made.connect(connectData(nqn, HOST));
    expect(status).toBe(Status.SUCCESS);
    expect(await made.enable()).toEqual(succeeded());
    return { queue: made, cntlid: result };
  }

  async function io(): Promise<TestQueue> {
    const { cntlid } = await admin();
    const made = await queue(1);
    expect(await made.connect(connectData(NQN, HOST, cntlid), { qid: 1, sqSize: 63 })).toEqual(succeeded());
    return made;
  }

  it('rejects connections with the reason', async () => {
    const reasons: [Uint8Array, number][] = [
      [new Uint8Array(20).fill(1), 1],
      [Buffer.concat([Buffer.from([1, 0]), queueRequest(0, 32).subarray(2)]), 2],
      [queueRequest(5, 32), 3],
      [queueRequest(0, 33), 4],
      [queueRequest(1, 65), 4],
      [queueRequest(1, 0), 4],
    ];
    for (const [data, reason] of reasons) {
      const error = await rdmaErrorOf(() => TestQueue.open(host, port, data));
      expect(error.code).toBe('ECONNREFUSED');
      // RoCE fills private data up with zeros, so that a request of a wrong length there is one of a wrong format.
      const told = Buffer.from(error.privateData!).readUInt16LE(2);
      if (reason !== 1) expect(told).toBe(reason);
      else expect([1, 2]).toContain(told);
    }
  });

  it('refuses Connect commands that do not fit', async () => {
    const wrong = async (data: Uint8Array, options = {}): Promise<Completion> =>
      (await queue()).connect(data, options);
    const good = connectData(NQN, HOST);
    const inData = 1 << 16;
    const { CONNECT_INVALID_PARAMETERS, CONNECT_INVALID_HOST, SGL_LENGTH_INVALID } = Status;
    const parameter = (result: number) => failed(CONNECT_INVALID_PARAMETERS, { result });
    expect(await wrong(connectData('nqn.none', HOST))).toEqual(parameter(256 | inData));
    expect(await wrong(connectData(NQN, ''))).toEqual(parameter(512 | inData));
    expect(await wrong(connectData(NQN, HOST, 7))).toEqual(parameter(16 | inData));
    expect(await wrong(good, { qid: 1 })).toEqual(parameter(42));
    expect(await wrong(good, { sqSize: 0 })).toEqual(parameter(44));
    expect(await wrong(good, { sqSize: 32 })).toEqual(parameter(44));
    expect(await wrong(good.subarray(0, 512))).toEqual(failed(SGL_LENGTH_INVALID));
    expect(await wrong(connectData(`${NQN}-closed`, HOST))).toEqual(failed(CONNECT_INVALID_HOST));
    const first = await queue();
    expect(await first.submit({ opcode: IDENTIFY })).toEqual(failed(Status.COMMAND_SEQUENCE_ERROR));
    expect(await first.connect(good)).toEqual(succeeded());
    expect(await first.connect(good)).toEqual(failed(Status.COMMAND_SEQUENCE_ERROR));
    expect(await first.submit({ opcode: IDENTIFY })).toEqual(failed(Status.COMMAND_SEQUENCE_ERROR));
  });

  it('gives I/O queues to the host that has the controller, each once', async () => {
    const { cntlid } = await admin();
    const connect = async (data: Uint8Array, qid = 1): Promise<Completion> =>
      (await queue(qid)).connect(data, { qid, sqSize: 63 });
    const parameter = failed(Status.CONNECT_INVALID_PARAMETERS);
    expect(await connect(connectData(NQN, `${HOST}-other`, cntlid))).toEqual(parameter);
    expect(await connect(connectData(NQN, HOST, cntlid, 2))).toEqual(parameter);
    expect(await connect(connectData(`${NQN}-closed`, HOST, cntlid))).toEqual(parameter);
    expect(await connect(connectData(NQN, HOST, cntlid + 99))).toEqual(parameter);
    expect(await connect(connectData(NQN, HOST, cntlid))).toEqual(succeeded({ result: cntlid, sqid: 1 }));
    expect(await connect(connectData(NQN, HOST, cntlid))).toEqual(failed(Status.COMMAND_SEQUENCE_ERROR));
    expect(await connect(connectData(NQN, HOST, cntlid), 4)).toEqual(succeeded());
    const discovery = await admin(DISCOVERY_NQN);
    expect(await connect(connectData(DISCOVERY_NQN, HOST, discovery.cntlid))).toEqual(parameter);
  });

  it('reads and writes, in capsules and by keys, and tells the head of the queue', async () => {
    const made = await io();
    const memory = await made.memory(8 * BLOCK);
    const bytes = Buffer.from(memory.buffer);
    bytes.fill('abcdefg');
    const range = (slba: number, blocks: number) => [slba, 0, blocks - 1];
    const pattern = Buffer.from(bytes);
    const written = await made.submit({
      opcode: WRITE!,
      nsid: 1,
      data: { memory, length: 8 * BLOCK },
      dwords: range(10, 8),
    });
    expect(written).toEqual(succeeded({ sqHead: 2, sqid: 1 }));
    const capsule = Buffer.alloc(BLOCK, 'in the capsule');
    expect(await made.submit({ opcode: WRITE!, nsid: 1, data: { capsule }, dwords: range(12, 1) })).toEqual(
      succeeded({ sqHead: 3 }),
    );
    const read = async (slba: number, blocks: number) => {
      bytes.fill(0xee);
      const data = { memory, length: blocks * BLOCK };
      expect(await made.submit({ opcode: READ!, nsid: 1, data, dwords: range(slba, blocks) })).toEqual(
        succeeded(),
      );
      return Buffer.from(bytes.subarray(0, blocks * BLOCK));
    };
    expect((await read(10, 2)).equals(pattern.subarray(0, 2 * BLOCK))).toBe(true);
    expect((await read(12, 1)).equals(capsule)).toBe(true);
    expect((await read(13, 5)).equals(pattern.subarray(3 * BLOCK))).toBe(true);
    expect(await made.submit({ opcode: WRITE_ZEROES!, nsid: 1, dwords: range(11, 2) })).toEqual(succeeded());
    expect((await read(11, 2)).every((byte) => byte === 0)).toBe(true);
    // Deallocate blocks 14 and 16, of which the second range comes first.
    const ranges = Buffer.alloc(32);
    ranges.writeUInt32LE(1, 4);
    ranges.writeUInt32LE(16, 8);
    ranges.writeUInt32LE(1, 20);
    ranges.writeUInt32LE(14, 24);
    const managed = await made.submit({
      opcode: MANAGE!,
      nsid: 1,
      data: { capsule: ranges },
      dwords: [1, 4],
    });
    expect(managed).toEqual(succeeded());
    const rest = await read(13, 5);
    for (const [index, kept] of [true, false, true, false, true].entries()) {
      const block = rest.subarray(index * BLOCK, (index + 1) * BLOCK);
      expect(block.some((byte) => byte !== 0)).toBe(kept);
    }
    expect(await made.submit({ opcode: FLUSH!, nsid: 1 })).toEqual(succeeded());
    expect(await made.submit({ opcode: FLUSH!, nsid: 0xffff_ffff })).toEqual(succeeded());
  });

  it('fails a command that is wrong, with its status, and nothing else', async () => {
    const made = await io();
    const memory = await made.memory(2 * 1024 * 1024);
    const at = (length: number) => ({ memory, length });
    const capsule = Buffer.alloc(BLOCK);
    const raw = Buffer.alloc(16);
    raw[15] = 0x30;
    const block = { nsid: 1, data: at(BLOCK), dwords: [0, 0, 0] };
    const cases: [Parameters<TestQueue['submit']>[0], number][] = [
      [{ ...block, opcode: 0x55 }, Status.INVALID_OPCODE],
      [{ ...block, opcode: READ!, nsid: 2 }, Status.INVALID_NAMESPACE],
      [{ ...block, opcode: WRITE!, nsid: 0 }, Status.INVALID_NAMESPACE],
      [{ ...block, opcode: FLUSH!, nsid: 9, data: at(0) }, Status.INVALID_NAMESPACE],
      [{ ...block, opcode: READ!, dwords: [BLOCKS, 0, 0] }, Status.LBA_OUT_OF_RANGE],
      [{ ...block, opcode: READ!, data: at(2 * BLOCK), dwords: [BLOCKS - 1, 0, 1] }, Status.LBA_OUT_OF_RANGE],
      [{ ...block, opcode: WRITE!, dwords: [0xffff_ffff, 0xffff_ffff, 0] }, Status.LBA_OUT_OF_RANGE],
      [{ ...block, opcode: WRITE_ZEROES!, data: at(0), dwords: [1, 0, 0xffff] }, Status.LBA_OUT_OF_RANGE],
      [{ ...block, opcode: READ!, data: at(BLOCK - 1) }, Status.SGL_LENGTH_INVALID],
      [{ ...block, opcode: READ!, data: at(BLOCK + 1) }, Status.SGL_LENGTH_INVALID],
      [{ ...block, opcode: WRITE!, data: at(0) }, Status.SGL_LENGTH_INVALID],
      [{ ...block, opcode: FLUSH! }, Status.SGL_LENGTH_INVALID],
      // 257 blocks are more than a command may transfer.
      [{ ...block, opcode: READ!, data: at(257 * BLOCK), dwords: [0, 0, 256] }, Status.INVALID_FIELD],
      [{ ...block, opcode: WRITE!, data: { raw } }, Status.SGL_TYPE_INVALID],
      [{ ...block, opcode: READ!, data: { capsule } }, Status.SGL_TYPE_INVALID],
      [{ ...block, opcode: WRITE!, data: { capsule, offset: 1 } }, Status.SGL_OFFSET_INVALID],
      [{ ...block, opcode: WRITE!, data: { capsule, offset: 2 ** 52 } }, Status.SGL_OFFSET_INVALID],
      [
        { ...block, opcode: WRITE!, data: { capsule: capsule.subarray(0, 100), length: BLOCK } },
        Status.SGL_OFFSET_INVALID,
      ],
      [
        { ...block, opcode: MANAGE!, data: { capsule: Buffer.alloc(16, 0xff) }, dwords: [0, 4] },
        Status.LBA_OUT_OF_RANGE,
      ],
      [
        { ...block, opcode: MANAGE!, data: { capsule: Buffer.alloc(16) }, dwords: [1, 4] },
        Status.SGL_LENGTH_INVALID,
      ],
      [{ opcode: 0x7f, fabricsType: 4, dwords: [1, 0] }, Status.INVALID_OPCODE],
    ];
    for (const [fields, status] of cases) {
      expect({ fields, completion: await made.submit(fields) }).toEqual({
        fields,
        completion: failed(status),
      });
    }
    expect(await made.submit({ ...block, opcode: READ! })).toEqual(succeeded());
  });

  it('answers admin commands that are wrong', async () => {
    const { queue: made, cntlid } = await admin();
    const memory = await made.memory(8192);
    const data = { memory, length: 4096 };
    const cases: [Parameters<TestQueue['submit']>[0], number][] = [
      [{ opcode: 0x99 }, Status.INVALID_OPCODE],
      [{ opcode: IDENTIFY, data, dwords: [0x77] }, Status.INVALID_FIELD],
      [{ opcode: IDENTIFY, data, nsid: 0, dwords: [0] }, Status.INVALID_NAMESPACE],
      [{ opcode: IDENTIFY, data, nsid: 5, dwords: [3] }, Status.INVALID_NAMESPACE],
      [{ opcode: IDENTIFY, data, nsid: 0xffff_ffff, dwords: [2] }, Status.INVALID_NAMESPACE],
      [{ opcode: IDENTIFY, data: { memory, length: 4000 }, dwords: [1] }, Status.SGL_LENGTH_INVALID],
      [
        { opcode: IDENTIFY, data: { capsule: Buffer.alloc(0), length: 4096 }, dwords: [1] },
        Status.SGL_OFFSET_INVALID,
      ],
      [{ opcode: GET_LOG_PAGE, data, dwords: [0x33 | (1023 << 16)] }, Status.INVALID_LOG_PAGE],
      [{ opcode: GET_LOG_PAGE, data, dwords: [0x70 | (1023 << 16)] }, Status.INVALID_LOG_PAGE],
      [{ opcode: GET_LOG_PAGE, data, dwords: [2 | (1023 << 16), 0, 2] }, Status.INVALID_FIELD],
      [{ opcode: GET_LOG_PAGE, data, dwords: [2 | (1023 << 16), 0, 516] }, Status.INVALID_FIELD],
      [{ opcode: GET_LOG_PAGE, data, dwords: [2 | (0xffff << 16), 0xffff] }, Status.INVALID_FIELD],
      [{ opcode: 0x09, dwords: [0x55] }, Status.INVALID_FIELD],
      [{ opcode: 0x09, dwords: [0x06, 1] }, Status.FEATURE_NOT_CHANGEABLE],
      [{ opcode: 0x09, dwords: [0x8000_000b, 1] }, Status.FEATURE_NOT_SAVEABLE],
      [{ opcode: 0x09, dwords: [0x81], data: { memory, length: 16 } }, Status.COMMAND_SEQUENCE_ERROR],
      [{ opcode: 0x0a, dwords: [0x55] }, Status.INVALID_FIELD],
      [{ opcode: 0x7f, fabricsType: 4, dwords: [0, 0x40] }, Status.INVALID_FIELD],
      [{ opcode: 0x7f, fabricsType: 0, dwords: [0, 0x08, 1] }, Status.INVALID_FIELD],
      [{ opcode: 0x7f, fabricsType: 0x55 }, Status.INVALID_OPCODE],
    ];
    for (const [fields, status] of cases) {
      expect({ fields, completion: await made.submit(fields) }).toEqual({
        fields,
        completion: failed(status),
      });
    }
    expect(await made.submit({ opcode: IDENTIFY, data, dwords: [1] })).toEqual(succeeded());
    expect(new DataView(memory.buffer).getUint16(78, true)).toBe(cntlid);
    // A number between namespaces is no error.
    expect(await made.submit({ opcode: IDENTIFY, data, nsid: 5, dwords: [0] })).toEqual(succeeded());
    expect(new Uint8Array(memory.buffer, 0, 4096).every((byte) => byte === 0)).toBe(true);
    const log = { opcode: GET_LOG_PAGE, data: { memory, length: 64 }, dwords: [1 | (15 << 16)] };
    expect(await made.submit(log)).toEqual(succeeded());
    // The newest error is that of the last case.
    const entry = new DataView(memory.buffer, 0, 64);
    expect(entry.getUint16(12, true) >> 1).toBe(Status.INVALID_OPCODE | 0x4000);
    expect(Number(entry.getBigUint64(0, true))).toBe(cases.length);
  });

  it('holds asynchronous event requests until they are aborted, and no more than it says', async () => {
    const { queue: made } = await admin();
    const held = Array.from({ length: 4 }, () => made.submit({ opcode: 0x0c }));
    expect(await made.submit({ opcode: 0x0c })).toEqual(failed(Status.ASYNC_EVENT_LIMIT));
    // Identifiers count from 1: Connect, Property Set, then the four.
    const aborted = await made.submit({ opcode: 0x08, dwords: [3 << 16] });
    expect(aborted).toEqual(succeeded({ result: 0 }));
    expect(await held[0]).toMatchObject({ id: 3, status: Status.ABORT_REQUESTED });
    expect(await made.submit({ opcode: 0x08, dwords: [3 << 16] })).toEqual(succeeded({ result: 1 }));
    for (const one of held) one.catch(() => {});
  });

  it('tells of a change once, until its log page has been read', async () => {
    const { queue: made } = await admin();
    const subsystem = target.registry.subsystems.get(NQN)!;
    const memory = await made.memory(4096);
    expect(await made.submit({ opcode: 0x09, dwords: [0x0b, 0x100] })).toEqual(succeeded());
    const event = made.submit({ opcode: 0x0c });
    const added = subsystem.addNamespace(new MemoryBackend(BLOCK));
    try {
      expect(await event).toEqual(succeeded({ result: 0x04_0002 }));
      const next = made.submit({ opcode: 0x0c });
      subsystem.addNamespace(new MemoryBackend(BLOCK));
      subsystem.removeNamespace(3);
      const data = { memory, length: 4096 };
      expect(await made.submit({ opcode: GET_LOG_PAGE, data, dwords: [4 | (1023 << 16)] })).toEqual(
        succeeded(),
      );
      expect([...new Uint32Array(memory.buffer, 0, 3)]).toEqual([2, 3, 0]);
      subsystem.removeNamespace(added.nsid);
      expect(await next).toEqual(succeeded({ result: 0x04_0002 }));
    } finally {
      subsystem.removeNamespace(added.nsid);
    }
  });

  it('gives up a host that neither works nor keeps alive', async () => {
    const made = await queue();
    expect(await made.connect(connectData(NQN, HOST), { keepAlive: 300 })).toEqual(succeeded());
    expect(await made.enable()).toEqual(succeeded());
    const { size } = target.registry.controllers;
    await made.lost;
    expect(target.registry.controllers.size).toBe(size - 1);
  });

  it('loses only the connection of a host whose keys are wrong', async () => {
    const other = await io();
    const good = { nsid: 1, dwords: [0, 0, 0] };
    const memory = await other.memory(BLOCK);
    for (const opcode of [READ!, WRITE!]) {
      const made = await io();
      const own = await made.memory(BLOCK);
      const wrong = [
        { memory: own, length: BLOCK, rkey: (own.mr.rkey ^ 0x55_0000) >>> 0 },
        { memory: own, length: BLOCK, addr: own.addr + 2 ** 20 },
      ];
      const data = wrong[opcode % 2]!;
      await expect(made.submit({ ...good, opcode, data })).rejects.toThrow();
      await made.lost;
      expect(await other.submit({ ...good, opcode, data: { memory, length: BLOCK } })).toEqual(succeeded());
    }
  });

  it('survives capsules that are none', async () => {
    for (const bytes of [new Uint8Array(1), new Uint8Array(63)]) {
      const made = await queue();
      await made.sendRaw(bytes).catch(() => {});
      await made.lost;
    }
    const made = await io();
    // A command may not be longer than its capsule: more than the receive can hold ends the connection.
    await made.sendRaw(new Uint8Array(64 + 4097)).catch(() => {});
    await made.lost;
    await io();
  });

  it('leaves nothing behind when hosts come and go', async () => {
    const cycle = async () => {
      const made = await io();
      const memory = await made.memory(BLOCK);
      await made.submit({ opcode: READ!, nsid: 1, data: { memory, length: BLOCK }, dwords: [0, 0, 0] });
      for (const one of open.splice(0)) await one.close();
      while (target.counters.queues > 0) await new Promise((resolve) => setTimeout(resolve, 10));
      await new Promise((resolve) => setTimeout(resolve, 50));
    };
    await cycle();
    const objects = liveObjects();
    for (let i = 0; i < 5; i++) await cycle();
    expect(liveObjects()).toEqual(objects);
    expect(target.registry.controllers.size).toBe(0);
  });
});
