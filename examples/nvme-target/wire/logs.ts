/** Log pages: NVMe Base Specification, 5.16.1; of discovery, 5.16.1.23. */
import { AdminOpcode, IoOpcode } from './command.ts';
import { Fields } from './fields.ts';

export const LogPage = {
  ERROR: 0x01,
  SMART: 0x02,
  CHANGED_NAMESPACES: 0x04,
  COMMANDS_SUPPORTED: 0x05,
  DISCOVERY: 0x70,
} as const;

const ERROR_ENTRY_BYTES = 64;

/** One command that failed. */
export interface ErrorEntry {
  /** Counts the errors of the controller, from 1. */
  readonly count: number;
  readonly sqid: number;
  readonly commandId: number;
  readonly status: number;
  readonly nsid: number;
  readonly lba: number;
}

const TRANSPORT_RDMA = 1;

/** Newest first. */
export function encodeErrorLog(entries: readonly ErrorEntry[], room: number): Uint8Array {
  const log = new Fields(room * ERROR_ENTRY_BYTES);
  entries.forEach(({ count, sqid, commandId, status, nsid, lba }, index) => {
    const at = index * ERROR_ENTRY_BYTES;
    log
      .u64(at, count)
      .u16(at + 8, sqid)
      .u16(at + 10, commandId)
      .u16(at + 12, (status << 1) & 0xffff)
      .u16(at + 14, 0xffff) // No particular byte of the command.
      .u64(at + 16, lba)
      .u32(at + 24, nsid)
      .u8(at + 29, TRANSPORT_RDMA);
  });
  return log.bytes;
}

/** What the SMART / Health log counts. */
export interface Health {
  readonly bytesRead: number;
  readonly bytesWritten: number;
  readonly reads: number;
  readonly writes: number;
  readonly busyMinutes: number;
  readonly powerOnHours: number;
  readonly mediaErrors: number;
  readonly errorEntries: number;
}

/** Data units are thousands of 512 bytes. */
const DATA_UNIT_BYTES = 512_000;
/** 25 °C: there is no sensor. */
const KELVIN = 298;

export function encodeHealth(health: Health): Uint8Array {
  return new Fields(512)
    .u16(1, KELVIN)
    .u8(3, 100)
    .u8(4, 10)
    .u64(32, Math.ceil(health.bytesRead / DATA_UNIT_BYTES))
    .u64(48, Math.ceil(health.bytesWritten / DATA_UNIT_BYTES))
    .u64(64, health.reads)
    .u64(80, health.writes)
    .u64(96, health.busyMinutes)
    .u64(112, 1)
    .u64(128, health.powerOnHours)
    .u64(160, health.mediaErrors)
    .u64(176, health.errorEntries).bytes;
}

const SUPPORTED = 1 << 0;
const CHANGES_BLOCKS = 1 << 1;

/** Commands supported and effects. */
export function encodeCommandsSupported(io: boolean): Uint8Array {
  const log = new Fields(4096);
  const admin = [
    AdminOpcode.GET_LOG_PAGE,
    AdminOpcode.IDENTIFY,
    AdminOpcode.ABORT,
    AdminOpcode.SET_FEATURES,
    AdminOpcode.GET_FEATURES,
    AdminOpcode.ASYNC_EVENT_REQUEST,
    AdminOpcode.KEEP_ALIVE,
  ];
  for (const opcode of admin) log.u32(opcode * 4, SUPPORTED);
  if (!io) return log.bytes;
  for (const opcode of Object.values(IoOpcode)) {
    const changes = opcode !== IoOpcode.READ && opcode !== IoOpcode.FLUSH;
    log.u32(1024 + opcode * 4, changes ? SUPPORTED | CHANGES_BLOCKS : SUPPORTED);
  }
  return log.bytes;
}

/** Identifiers of namespaces that have changed; 0xffffffff in the first place for too many to name. */
export function encodeChangedNamespaces(nsids: readonly number[]): Uint8Array {
  const log = new Fields(4096);
  if (nsids.length > 1024) return log.u32(0, 0xffff_ffff).bytes;
  nsids.forEach((nsid, index) => {
    log.u32(index * 4, nsid);
  });
  return log.bytes;
}

/** A subsystem that can be connected to. */
export interface DiscoveryEntry {
  readonly kind: 'nvm' | 'discovery';
  readonly nqn: string;
  readonly host: string;
  readonly port: number;
  readonly portId: number;
  readonly iwarp: boolean;
}

const DISCOVERY_ENTRY_BYTES = 1024;
const CURRENT_DISCOVERY = 3;
const NVM = 2;
const SQ_FLOW_CONTROL_OPTIONAL = 1 << 2;
const ANY_CONTROLLER = 0xffff;
const ADMIN_QUEUE_SIZE = 32;
const ROCE_V2 = 4;
const IWARP = 5;

/** [generation] changes with every change of the log. */
export function encodeDiscovery(entries: readonly DiscoveryEntry[], generation: number): Uint8Array {
  const log = new Fields((entries.length + 1) * DISCOVERY_ENTRY_BYTES)
    .u64(0, generation)
    .u64(8, entries.length);
  entries.forEach(({ kind, nqn, host, port, portId, iwarp }, index) => {
    const at = (index + 1) * DISCOVERY_ENTRY_BYTES;
    log
      .u8(at, TRANSPORT_RDMA)
      .u8(at + 1, host.includes(':') ? 2 : 1)
      .u8(at + 2, kind === 'nvm' ? NVM : CURRENT_DISCOVERY)
      .u8(at + 3, SQ_FLOW_CONTROL_OPTIONAL)
      .u16(at + 4, portId)
      .u16(at + 6, ANY_CONTROLLER)
      .u16(at + 8, ADMIN_QUEUE_SIZE)
      .text(at + 32, 32, String(port))
      .text(at + 256, 256, nqn, '\0')
      .text(at + 512, 256, host)
      .u8(at + 768, 1) // Reliable connections,
      .u8(at + 769, iwarp ? IWARP : ROCE_V2)
      .u8(at + 770, 1); // made by rdma_cm.
  });
  return log.bytes;
}
