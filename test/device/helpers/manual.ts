/** Queue pairs that are connected by hand, without rdma_cm: rxe0 only, since iWARP has no such thing. */
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
import { devices } from './devices.ts';

/** The key of datagrams in tests. */
export const QKEY = 0x1111_1111;

/** Index of the IPv4 address in the GID table of [name]'s port 1. */
export function ipv4GidIndex(name: string): number {
  const table = `/sys/class/infiniband/${name}/ports/1/gids`;
  const found = readdirSync(table)
    .map(Number)
    .sort((a, b) => a - b)
    .find((index) =>
      readFileSync(`${table}/${index}`, 'latin1').startsWith('0000:0000:0000:0000:0000:ffff:'),
    );
  if (found === undefined) throw new Error(`${name} has no GID of an IPv4 address`);
  return found;
}

/** The path from a device to itself. */
export function loopback(name = 'rxe0'): AhAttr {
  const { host } = devices.find((device) => device.name === name)!;
  return { grh: { dgid: host, sgidIndex: ipv4GidIndex(name) } };
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

/** Two queue pairs on rxe0, in RESET. */
export function unconnectedPair(options: Omit<QpOptions, 'sendCq' | 'recvCq'> = {}): ManualPair {
  const device = openDevice('rxe0');
  const pd = device.allocPd();
  const cqA = device.createCq();
  const cqB = device.createCq();
  const regions: MemoryRegion[] = [];
  return {
    device,
    pd,
    a: pd.createQp({ ...options, sendCq: cqA }),
    b: pd.createQp({ ...options, sendCq: cqB }),
    cqA,
    cqB,
    memory(bytes, access = ALL) {
      const buffer = Buffer.alloc(bytes);
      const mr = pd.regMrSync(buffer, access);
      regions.push(mr);
      return { bytes: buffer, mr };
    },
    async close() {
      await Promise.all(regions.map((mr) => mr.close()));
      device.close();
    },
  };
}

/** Two queue pairs on rxe0, in RTS. */
export function manualPair(options?: Omit<QpOptions, 'sendCq' | 'recvCq'>, attrs?: ManualAttrs): ManualPair {
  const pair = unconnectedPair(options);
  connectManually(pair.a, pair.b, attrs);
  return pair;
}
