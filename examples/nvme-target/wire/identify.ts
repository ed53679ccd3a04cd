/** Data structures of Identify: NVMe Base Specification, 5.17.2; NVM Command Set Specification, 4.1.5. */
import { createHash } from 'node:crypto';
import { Fields } from './fields.ts';

/** Controller or namespace structure. */
export const Cns = {
  NAMESPACE: 0x00,
  CONTROLLER: 0x01,
  ACTIVE_NAMESPACES: 0x02,
  NAMESPACE_DESCRIPTORS: 0x03,
} as const;

export const IDENTIFY_BYTES = 4096;
/** Version 1.4. */
export const VERSION = 0x0001_0400;
export const MODEL = 'node-rdma NVMe target';
export const FIRMWARE = '1';
/** Log page attributes: the commands supported log, and offsets and long lengths of Get Log Page. */
const LOG_ATTRIBUTES = 0x06;
/** SGLs without alignment, keyed data block descriptors, offsets in capsules. */
const SGL_SUPPORT = (1 << 0) | (1 << 2) | (1 << 20);
/** Host identifiers of 128 bits; any command is as good as a Keep Alive. */
const CONTROLLER_ATTRIBUTES = (1 << 0) | (1 << 6);
/** Dataset Management, Write Zeroes. */
const OPTIONAL_COMMANDS = (1 << 2) | (1 << 3);
/** Keep alive timeouts are multiples of 100 ms times this. */
export const KEEP_ALIVE_GRANULARITY = 10;
/** Asynchronous events that can be enabled: namespaces come or change; the discovery log changes. */
export const AsyncEvents = { NAMESPACE: 1 << 8, DISCOVERY: 1 << 31 } as const;

/** What Identify tells of a controller. */
export interface ControllerIdentity {
  readonly kind: 'io' | 'discovery';
  readonly cntlid: number;
  readonly nqn: string;
  /** Commands in flight on a queue. */
  readonly depth: number;
  /** Bytes of data that a command capsule of an I/O queue can carry. */
  readonly inCapsule: number;
  /** Longest transfer of a command, as a power of two of 4096 bytes. */
  readonly mdts: number;
  /** Highest namespace identifier. */
  readonly namespaces: number;
  readonly abortLimit: number;
  readonly asyncEvents: number;
  readonly errorLogEntries: number;
  /** Data can be lost when the power fails: there is something to flush. */
  readonly volatileCache: boolean;
}

export function encodeController(id: ControllerIdentity): Uint8Array {
  const io = id.kind === 'io';
  return new Fields(IDENTIFY_BYTES)
    .text(4, 20, serialNumber(id.nqn))
    .text(24, 40, MODEL)
    .text(64, 8, FIRMWARE)
    .u8(76, io ? 0x02 : 0) // Several controllers.
    .u8(77, id.mdts)
    .u16(78, id.cntlid)
    .u32(80, VERSION)
    .u32(92, io ? AsyncEvents.NAMESPACE : AsyncEvents.DISCOVERY)
    .u32(96, CONTROLLER_ATTRIBUTES)
    .u8(111, io ? 1 : 2)
    .u8(258, id.abortLimit - 1)
    .u8(259, id.asyncEvents - 1)
    .u8(260, 0x03) // One firmware slot, read only.
    .u8(261, LOG_ATTRIBUTES)
    .u8(262, id.errorLogEntries - 1)
    .u16(320, KEEP_ALIVE_GRANULARITY)
    .u8(512, io ? 0x66 : 0)
    .u8(513, io ? 0x44 : 0)
    .u16(514, id.depth)
    .u32(516, io ? id.namespaces : 0)
    .u16(520, io ? OPTIONAL_COMMANDS : 0)
    .u8(525, io && id.volatileCache ? 0x01 : 0)
    .u32(536, SGL_SUPPORT)
    .text(768, 256, id.nqn, '\0')
    .u32(1792, 4 + (io ? id.inCapsule / 16 : 0))
    .u32(1796, 1)
    .u8(1803, 1).bytes; // One SGL descriptor in a capsule.
}

/** What Identify tells of a namespace. */
export interface NamespaceIdentity {
  readonly blocks: number;
  readonly blockBytes: number;
  readonly guid: Uint8Array;
  /** Deallocated blocks read as zeros. */
  readonly readsZeros: boolean;
}

export function encodeNamespace({ blocks, blockBytes, guid, readsZeros }: NamespaceIdentity): Uint8Array {
  return new Fields(IDENTIFY_BYTES)
    .u64(0, blocks)
    .u64(8, blocks)
    .u64(16, blocks)
    .u8(30, 0x01) // Several controllers may have it.
    .u8(33, readsZeros ? 0x01 : 0)
    .raw(104, guid)
    .u8(130, Math.log2(blockBytes)).bytes;
}

/** Namespace identifiers above [after], in order; at most as many as fit. */
export function encodeNamespaceList(nsids: readonly number[], after: number): Uint8Array {
  const list = new Fields(IDENTIFY_BYTES);
  const wanted = nsids.filter((nsid) => nsid > after).slice(0, IDENTIFY_BYTES / 4);
  wanted.forEach((nsid, index) => {
    list.u32(index * 4, nsid);
  });
  return list.bytes;
}

const NGUID = 2;
const UUID = 3;

export function encodeNamespaceDescriptors(guid: Uint8Array, uuid: Uint8Array): Uint8Array {
  const list = new Fields(IDENTIFY_BYTES);
  for (const [index, [type, value]] of [[NGUID, guid] as const, [UUID, uuid] as const].entries()) {
    const offset = index * 20;
    list
      .u8(offset, type)
      .u8(offset + 1, 16)
      .raw(offset + 4, value);
  }
  return list.bytes;
}

/**
 * 16 bytes that are always the same for [parts]: hosts refuse a namespace that has changed its identifiers while they were
 * away.
 */
function stableBytes(...parts: readonly (string | number)[]): Uint8Array {
  return createHash('sha256').update(parts.join('\0')).digest().subarray(0, 16);
}

export function namespaceGuid(nqn: string, nsid: number): Uint8Array {
  return stableBytes('guid', nqn, nsid);
}

/** A UUID of RFC 9562, version 8. */
export function namespaceUuid(nqn: string, nsid: number): Uint8Array {
  const uuid = stableBytes('uuid', nqn, nsid);
  uuid[6] = (uuid[6]! & 0x0f) | 0x80;
  uuid[8] = (uuid[8]! & 0x3f) | 0x80;
  return uuid;
}

function serialNumber(nqn: string): string {
  return Buffer.from(stableBytes('serial', nqn)).toString('hex').slice(0, 20);
}
