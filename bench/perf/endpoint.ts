/** One end of a measured connection: a queue pair, memory, and where the peer's memory is. */
import {
  Access,
  CmId,
  type CompletionQueue,
  type ConnParam,
  type Device,
  type MemorySlab,
  type ProtectionDomain,
  type QueuePair,
} from '../../lib/index.ts';
import type { Cell } from './options.ts';

/** What an end has before it is connected. */
export interface LocalEnd {
  readonly id: CmId;
  readonly pd: ProtectionDomain;
  readonly qp: QueuePair;
  readonly cq: CompletionQueue;
  /** Room for two messages, as in perftest. */
  readonly slab: MemorySlab;
}

/** A connected end. */
export interface Endpoint extends LocalEnd {
  /** The peer's slab. */
  readonly remote: { readonly addr: number; readonly rkey: number };
  close(): void;
}

const ADDRESS_BYTES = 12;
/** As in perftest. */
const connParam = ({ attr }: Device): ConnParam => ({
  retryCount: 7,
  rnrRetryCount: 7,
  responderResources: Math.min(attr.maxQpRdAtom, MAX_READS),
  initiatorDepth: Math.min(attr.maxQpInitRdAtom, MAX_READS),
});
const MAX_READS = 128;

/**
 * Receives that are there at a time: on iWARP, where a message that finds none ends the connection, as many as there are
 * messages.
 */
export function receivesOf({ transport }: Device, { test, depth, iterations }: Cell): number {
  return transport === 'iwarp' && test === 'send_bw' ? Math.max(iterations, 2 * depth) : 2 * depth;
}

function describe(slab: MemorySlab): Buffer {
  const data = Buffer.alloc(ADDRESS_BYTES);
  data.writeBigUInt64LE(BigInt(slab.addr), 0);
  data.writeUInt32LE(slab.mr.rkey, 8);
  return data;
}

async function prepare(id: CmId, cell: Cell): Promise<LocalEnd> {
  const device = id.device!;
  const pd = device.allocPd();
  const maxRecvWr = receivesOf(device, cell);
  const cq = device.createCq({ cqe: 2 * cell.depth + maxRecvWr });
  const slab = await pd.allocSlab(
    Math.max(4096, 2 * cell.size),
    Access.LOCAL_WRITE | Access.REMOTE_WRITE | Access.REMOTE_READ,
  );
  const qp = id.createQp({ pd, sendCq: cq, maxSendWr: cell.depth, maxRecvWr });
  return { id, pd, qp, cq, slab };
}

function connected(local: LocalEnd, data: Buffer): Endpoint {
  return {
    ...local,
    remote: { addr: Number(data.readBigUInt64LE(0)), rkey: data.readUInt32LE(8) },
    close() {
      local.id.close();
      local.cq.close();
      local.pd.close();
    },
  };
}

/** Waits for one connection. [ready] is told the port; [before] runs before the peer can send. */
export async function listen(
  host: string,
  cell: Cell,
  ready: (port: number) => void,
  before: (end: LocalEnd) => void,
): Promise<Endpoint> {
  const listener = new CmId();
  listener.bind({ host, port: 0 });
  listener.listen();
  ready(listener.localAddress!.port);
  const id = await listener.nextRequest();
  const local = await prepare(id, cell);
  before(local);
  await id.accept({ privateData: describe(local.slab), ...connParam(id.device!) });
  listener.close();
  return connected(local, id.request!.privateData);
}

/** Connects to {@link listen}. */
export async function connect(
  host: string,
  port: number,
  cell: Cell,
  before: (end: LocalEnd) => void,
): Promise<Endpoint> {
  const id = new CmId();
  await id.resolveAddr({ host, port });
  await id.resolveRoute();
  const local = await prepare(id, cell);
  before(local);
  const answer = await id.connect({ privateData: describe(local.slab), ...connParam(id.device!) });
  return connected(local, answer.privateData);
}
