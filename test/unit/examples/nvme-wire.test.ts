import { describe, expect, it } from 'vitest';
import { counterLines, shortNumber } from '../../../examples/counter-view.ts';
import { MemoryBackend } from '../../../examples/nvme-target/memory-backend.ts';
import { Namespace } from '../../../examples/nvme-target/namespace.ts';
import { Command, encodeCompletion } from '../../../examples/nvme-target/wire/command.ts';
import { capabilities } from '../../../examples/nvme-target/wire/connect.ts';
import {
  encodeController,
  encodeNamespace,
  encodeNamespaceDescriptors,
  encodeNamespaceList,
  namespaceGuid,
  namespaceUuid,
} from '../../../examples/nvme-target/wire/identify.ts';
import { encodeDiscovery, encodeErrorLog, encodeHealth } from '../../../examples/nvme-target/wire/logs.ts';
import { decodeQueueRequest, RejectReason } from '../../../examples/nvme-target/wire/rdma.ts';
import { NvmeError, Status, statusName } from '../../../examples/nvme-target/wire/status.ts';

const NQN = 'nqn.2026-11.org.node-rdma:unit';
const at = (bytes: Uint8Array) => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);

describe('commands', () => {
  // A Read of 8 blocks at 0x123456789 of namespace 3, id 0xbeef, as it is on the wire.
  const read = Buffer.alloc(64);
  read.set([0x02, 0x40, 0xef, 0xbe, 3]);
  read.writeBigUInt64LE(0x1_2345_6789n, 40);
  read.writeUInt16LE(7, 48);

  it('are read in place', () => {
    const command = new Command(read);
    expect([command.opcode, command.id, command.nsid, command.slba]).toEqual([2, 0xbeef, 3, 0x1_2345_6789]);
    expect(command.dword(12)).toBe(7);
    read[0] = 1;
    expect(command.opcode).toBe(1);
    read[0] = 2;
  });

  it('carry keyed descriptors with 24 bits of length, and 64 of address', () => {
    const command = new Command(read);
    read.writeBigUInt64LE(0xffff_8880_0000_1000n, 24);
    read.set([0x00, 0x10, 0xfe, 0x78, 0x56, 0x34, 0x92, 0x40], 32);
    expect(command.sgl).toEqual({
      kind: 'keyed',
      addr: 0xffff_8880_0000_1000n,
      length: 0xfe1000,
      rkey: 0x9234_5678,
      invalidate: false,
    });
    read.writeBigUInt64LE(0x7fff_1234_5678n, 24);
    read[39] = 0x4f;
    expect(command.sgl).toMatchObject({ addr: 0x7fff_1234_5678, invalidate: true });
    read[39] = 0x01;
    read.writeUInt32LE(4096, 32);
    expect(command.sgl).toEqual({ kind: 'capsule', offset: 0x7fff_1234_5678, length: 4096 });
    for (const type of [0x00, 0x02, 0x20, 0x30, 0x41, 0x5a, 0xff]) {
      read[39] = type;
      expect(() => command.sgl).toThrow(NvmeError);
    }
  });

  it('end in completions', () => {
    const bytes = encodeCompletion(0xbeef, 2, 5, Status.LBA_OUT_OF_RANGE | 0x4000, 0xffff_fffe, 9);
    expect(at(bytes).toString('hex')).toBe('feffffff0900000005000200efbe0081');
    expect(statusName(Status.LBA_OUT_OF_RANGE | 0x4000)).toBe('LBA_OUT_OF_RANGE');
  });
});

describe('structures', () => {
  it('of a controller', () => {
    const id = at(
      encodeController({
        kind: 'io',
        cntlid: 0x1234,
        nqn: NQN,
        depth: 128,
        inCapsule: 4096,
        mdts: 8,
        namespaces: 1024,
        abortLimit: 4,
        asyncEvents: 4,
        errorLogEntries: 64,
        volatileCache: true,
      }),
    );
    expect(id).toHaveLength(4096);
    expect(id.toString('latin1', 24, 64).trimEnd()).toBe('node-rdma NVMe target');
    expect([id[77], id.readUInt16LE(78), id.readUInt32LE(80)]).toEqual([8, 0x1234, 0x1_0400]);
    expect([id[111], id[258], id[259], id[262], id[525]]).toEqual([1, 3, 3, 63, 1]);
    expect([id.readUInt16LE(514), id.readUInt32LE(516), id.readUInt32LE(536)]).toEqual([
      128, 1024, 0x10_0005,
    ]);
    expect(id.toString('latin1', 768, 768 + NQN.length + 1)).toBe(`${NQN}\0`);
    expect([id.readUInt32LE(1792), id.readUInt32LE(1796), id[1803]]).toEqual([260, 1, 1]);
    expect(capabilities(128)).toEqual({ low: 0x1e01_007f, high: 0x20 });
  });

  it('of namespaces, which are the same after a restart', () => {
    const guid = namespaceGuid(NQN, 1);
    expect(Buffer.from(guid)).toEqual(Buffer.from(namespaceGuid(NQN, 1)));
    expect(Buffer.from(guid)).not.toEqual(Buffer.from(namespaceGuid(NQN, 2)));
    const uuid = Buffer.from(namespaceUuid(NQN, 1)).toString('hex');
    expect(uuid).toMatch(/^.{12}8.{3}[89ab].{15}$/);
    const id = at(encodeNamespace({ blocks: 2 ** 40, blockBytes: 512, guid, readsZeros: true }));
    expect([id.readBigUInt64LE(0), id[130], id[33]]).toEqual([2n ** 40n, 9, 1]);
    expect(id.subarray(104, 120)).toEqual(Buffer.from(guid));
    const list = new Uint32Array(encodeNamespaceList([1, 2, 7, 9], 2).buffer);
    expect([...list.subarray(0, 3)]).toEqual([7, 9, 0]);
    const descriptors = at(encodeNamespaceDescriptors(guid, namespaceUuid(NQN, 1)));
    expect([descriptors[0], descriptors[1], descriptors[20], descriptors[21], descriptors[40]]).toEqual([
      2, 16, 3, 16, 0,
    ]);
  });

  it('of logs', () => {
    const entry = { count: 9, sqid: 1, commandId: 2, status: 0x4080, nsid: 3, lba: 2 ** 40 };
    const errors = at(encodeErrorLog([entry], 4));
    expect(errors).toHaveLength(256);
    expect([errors.readBigUInt64LE(0), errors.readUInt16LE(12), errors.readBigUInt64LE(16)]).toEqual([
      9n,
      0x8100,
      2n ** 40n,
    ]);
    const health = {
      bytesRead: 1_000_000,
      bytesWritten: 1,
      reads: 5,
      writes: 6,
      busyMinutes: 7,
      powerOnHours: 8,
      mediaErrors: 0,
      errorEntries: 9,
    };
    const smart = at(encodeHealth(health));
    expect([32, 48, 64, 80, 96, 128, 176].map((offset) => Number(smart.readBigUInt64LE(offset)))).toEqual([
      2, 1, 5, 6, 7, 8, 9,
    ]);
    const log = at(
      encodeDiscovery(
        [
          { kind: 'nvm', nqn: NQN, host: 'fd00:1::1', port: 4420, portId: 2, iwarp: true },
          { kind: 'discovery', nqn: 'x', host: '10.0.0.1', port: 1, portId: 1, iwarp: false },
        ],
        77,
      ),
    );
    expect([log.readBigUInt64LE(0), log.readBigUInt64LE(8), log.length]).toEqual([77n, 2n, 3072]);
    expect([...log.subarray(1024, 1028)]).toEqual([1, 2, 2, 4]);
    expect(log.toString('latin1', 1024 + 32, 1024 + 40)).toBe('4420    ');
    expect([...log.subarray(1024 + 768, 1024 + 771)]).toEqual([1, 5, 1]);
    expect([...log.subarray(2048, 2051)]).toEqual([1, 1, 3]);
  });

  it('of connection requests', () => {
    const data = Buffer.alloc(40);
    data.writeUInt16LE(3, 2);
    data.writeUInt16LE(128, 4);
    data.writeUInt16LE(127, 6);
    expect(decodeQueueRequest(data)).toEqual({ qid: 3, hrqSize: 128, hsqSize: 127 });
    expect(decodeQueueRequest(data.subarray(0, 31))).toBe(RejectReason.INVALID_LENGTH);
    data[0] = 1;
    expect(decodeQueueRequest(data)).toBe(RejectReason.INVALID_FORMAT);
  });
});

describe('a namespace in memory', () => {
  it('refuses ranges that are not there', () => {
    const namespace = new Namespace(1, new MemoryBackend(10 * 512 + 100), 512);
    expect(namespace.blocks).toBe(10);
    expect(namespace.offsetOf(9, 1)).toBe(9 * 512);
    for (const [slba, count] of [
      [10, 1],
      [9, 2],
      [2 ** 64, 1],
    ] as const) {
      expect(() => namespace.offsetOf(slba, count)).toThrow(/LBA_OUT_OF_RANGE/);
    }
    expect(() => new Namespace(1, new MemoryBackend(4096), 1000)).toThrow(/block size/);
    expect(() => new Namespace(1, new MemoryBackend(100), 512)).toThrow(/shorter/);
  });

  it('keeps what crosses its chunks', async () => {
    const MiB = 1024 * 1024;
    const backend = new MemoryBackend(40 * MiB);
    const data = new Uint8Array(20 * MiB).fill(5);
    await backend.write(10 * MiB, data);
    const views = backend.views(10 * MiB, 20 * MiB);
    expect(views.map(({ length }) => length / MiB)).toEqual([6, 14]);
    expect(views.every((view) => view.every((byte) => byte === 5))).toBe(true);
    await backend.zero(15 * MiB, 2 * MiB);
    const around = new Uint8Array(4 * MiB);
    await backend.read(14 * MiB, around);
    expect([around[MiB - 1], around[MiB], around[3 * MiB - 1], around[3 * MiB]]).toEqual([5, 0, 0, 5]);
  });
});

describe('the counter view', () => {
  it('shows totals and rates', () => {
    expect([0, 999, 1000, 12_345, 999_999, 5e9].map(shortNumber)).toEqual([
      '0',
      '999',
      '1.0 k',
      '12.3 k',
      '1000 k',
      '5.0 G',
    ]);
    expect(counterLines({ reads: 3000, queues: 1 }, { reads: 1000, queues: 2 }, 2)).toEqual([
      'reads     3.0 k    1.0 k/s',
      'queues        1        0/s',
    ]);
  });
});
