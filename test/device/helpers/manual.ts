/** Queue pairs that are connected by hand, without rdma_cm; on rxe, since iWARP has no such thing. */
import { readdirSync, readFileSync } from 'node:fs';
import {
  Access,
  type AhAttr,
  type CompletionQueue,
  type Device,
  type MemoryRegion,
  openDevice,
  type ProtectionDomain,
  type QpAttr,
  type QpOptions,
  type QueuePair,
} from '../../../lib/index.ts';

/** The key of datagrams in tests. */
export const QKEY = 0x1111_1111;

function ipv4Gid(name: string): { index: number; gid: string } {
  const table = `/sys/class/infiniband/${name}/ports/1/gids`;
  const indices = readdirSync(table)
    .map(Number)
    .sort((a, b) => a - b);
  for (const index of indices) {
    const gid = readFileSync(`${table}/${index}`, 'latin1').trim();
    if (gid.startsWith('0000:0000:0000:0000:0000:ffff:')) return { index, gid };
  }
  throw new Error(`${name} has no GID of an IPv4 address`);
}

/** Index of the IPv4 address in the GID table of [name]'s port 1. */
export function ipv4GidIndex(name: string): number {
  return ipv4Gid(name).index;
}

/** The path from a device to itself. */
export function loopback(name = 'rxe0'): AhAttr {
  const { index, gid } = ipv4Gid(name);
  return { grh: { dgid: gid, sgidIndex: index } };
}

/** Attributes that differ from the defaults, by the state that they are for. */
export interface ManualAttrs {
  readonly init?: QpAttr;
  readonly rtr?: QpAttr;
  readonly rts?: QpAttr;
}

/** Takes [qp] from RESET to RTS; connected types talk to the queue pair [destQpNum] of the same device. */
export function bringUp(qp: QueuePair, destQpNum: number, attrs: ManualAttrs = {}): void {
  const datagrams = qp.type === 'UD';
  qp.toInit({ ...(datagrams ? { qkey: QKEY } : {}), ...attrs.init });
  qp.toRtr({ ...(datagrams ? {} : { destQpNum, ahAttr: loopback(qp.device.name) }), ...attrs.rtr });
  qp.toRts(attrs.rts);
}

/** Connects two queue pairs of one device, in RESET, with each other. For UD: brings both up. */
export function connectManually(a: QueuePair, b: QueuePair, attrs: ManualAttrs = {}): void {
  bringUp(a, b.qpNum, attrs);
  bringUp(b, a.qpNum, attrs);
}

/** Two queue pairs of one process, each with a completion queue of its own. */
export interface ManualPair {
  readonly device: Device;
  readonly pd: ProtectionDomain;
  readonly a: QueuePair;
  readonly b: QueuePair;
  readonly cqA: CompletionQueue;
  readonly cqB: CompletionQueue;
  /** Registers a fresh buffer for every use. */
  memory(bytes: number, access?: number): { bytes: Buffer; mr: MemoryRegion };
  close(): Promise<void>;
}

const ALL = Access.LOCAL_WRITE | Access.REMOTE_READ | Access.REMOTE_WRITE | Access.REMOTE_ATOMIC;

/** Two queue pairs of one device, in RESET. */
export function unconnectedPair(
  options: Omit<QpOptions, 'sendCq' | 'recvCq'> = {},
  name = 'rxe0',
): ManualPair {
  const device = openDevice(name);
  const pd = device.allocPd();
  const cqA = device.createCq();
  const cqB = device.createCq();
  const regions: MemoryRegion[] = [];
  const [a, b] = [pd.createQp({ ...options, sendCq: cqA }), pd.createQp({ ...options, sendCq: cqB })];
  return {
    device,
    pd,
    a,
    b,
    cqA,
    cqB,
    memory(bytes, access = ALL) {
      const buffer = Buffer.alloc(bytes);
      const mr = pd.regMrSync(buffer, access);
      regions.push(mr);
      return { bytes: buffer, mr };
    },
    async close() {
      a.close();
      b.close();
      await Promise.all(regions.map((mr) => mr.close()));
      device.close();
    },
  };
}

/** Two queue pairs of one device, in RTS. */
export function manualPair(
  options?: Omit<QpOptions, 'sendCq' | 'recvCq'>,
  attrs?: ManualAttrs,
  name?: string,
): ManualPair {
  const pair = unconnectedPair(options, name);
  connectManually(pair.a, pair.b, attrs);
  return pair;
}
