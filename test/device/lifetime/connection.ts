/** Connections whose two ends may be in different threads or processes. */
import {
  Access,
  CmId,
  type CompletionQueue,
  type Device,
  type MemoryRegion,
  type MemorySlab,
  Opcode,
  openDevice,
  type ProtectionDomain,
  type QueuePair,
  SendFlags,
  type SendWr,
} from '../../../lib/index.ts';

export const ALL = Access.LOCAL_WRITE | Access.REMOTE_READ | Access.REMOTE_WRITE;
const SLAB = 1 << 20;
/** Work requests in each queue. */
export const DEPTH = 16;

/** One end of a connection, or a listener, and what it is made of. */
export interface End {
  readonly device: Device;
  readonly pd: ProtectionDomain;
  readonly cq: CompletionQueue;
  readonly slab: MemorySlab;
  close(): Promise<void>;
}

/** The address and key of memory that the peer may use; travels in a private message or as arguments. */
export interface Remote {
  readonly port: number;
  readonly addr: number;
  readonly rkey: number;
}

/** An open device with a domain, a completion queue and memory. */
export async function open(deviceName: string): Promise<End> {
  const device = openDevice(deviceName);
  const pd = device.allocPd();
  const cq = device.createCq();
  const slab = await pd.allocSlab(SLAB, ALL);
  return {
    device,
    pd,
    cq,
    slab,
    async close() {
      await slab.close();
      device.close();
    },
  };
}

/** A listener that accepts whoever comes, with receives posted. */
export interface Server extends End {
  readonly listener: CmId;
  readonly remote: Remote;
  /** Connections that are there now. */
  readonly ids: Set<CmId>;
}

/** Starts a listener on [host]; [onId] is told of each connection before it is accepted. */
export async function serve(
  deviceName: string,
  host: string,
  onId: (id: CmId, qp: QueuePair) => void = () => undefined,
): Promise<Server> {
  const end = await open(deviceName);
  const ids = new Set<CmId>();
  const listener = new CmId();
  listener.bind({ host, port: 0 });
  listener.listen();
  listener.on('connectRequest', (id) => {
    const sges = [{ addr: end.slab.addr, length: 64, lkey: end.slab.mr.lkey }];
    let qp: QueuePair;
    try {
      qp = id.createQp({ pd: end.pd, sendCq: end.cq, maxSendWr: DEPTH, maxRecvWr: DEPTH });
    } catch {
      // Whoever asked has gone, and rdma_create_qp(3) with them.
      id.close();
      return;
    }
    for (let i = 0; i < DEPTH / 2; i += 1) qp.postRecv({ sges });
    ids.add(id);
    id.on('close', () => ids.delete(id));
    id.on('disconnected', () => id.close());
    onId(id, qp);
    // The same may happen here.
    id.accept().catch(() => undefined);
  });
  const remote = { port: listener.localAddress!.port, addr: end.slab.addr, rkey: end.slab.mr.rkey };
  return {
    ...end,
    listener,
    remote,
    ids,
    async close() {
      listener.close();
      for (const id of ids) id.close();
      await end.close();
    },
  };
}

/** A connected client. */
export interface Client extends End {
  readonly id: CmId;
  readonly qp: QueuePair;
}

/** Connects to what {@link serve} has started. */
export async function connectTo(deviceName: string, host: string, port: number): Promise<Client> {
  const end = await open(deviceName);
  const id = new CmId();
  await id.resolveAddr({ host, port });
  await id.resolveRoute();
  const qp = id.createQp({ pd: end.pd, sendCq: end.cq, maxSendWr: DEPTH, maxRecvWr: DEPTH });
  // Retries end soon, so that a peer that has died is noticed.
  await id.connect({ retryCount: 2, rnrRetryCount: 2 });
  return {
    ...end,
    id,
    qp,
    async close() {
      id.close();
      await end.close();
    },
  };
}

/** What {@link keepWriting} has done so far. */
export interface Traffic {
  posted: number;
  completed: number;
  flushed: number;
  stopped: boolean;
}

/** Keeps READs and WRITEs of [bytes] in flight until one fails or `stopped` is set. */
export function keepWriting(
  qp: QueuePair,
  local: MemoryRegion,
  remote: Remote,
  bytes = 64 * 1024,
  onEach: (traffic: Traffic) => void = () => undefined,
): Traffic {
  const traffic: Traffic = { posted: 0, completed: 0, flushed: 0, stopped: false };
  const sges = [{ addr: local.addr, length: bytes, lkey: local.lkey }];
  const range = { sges, remoteAddr: remote.addr, rkey: remote.rkey, flags: SendFlags.SIGNALED };
  const works: SendWr[] = [
    { opcode: Opcode.RDMA_WRITE, ...range },
    { opcode: Opcode.RDMA_READ, ...range },
  ];
  const post = () => {
    qp.postSend(works[traffic.posted % 2] as SendWr, (status) => {
      if (status !== 0) {
        traffic.flushed += 1;
        return;
      }
      traffic.completed += 1;
      onEach(traffic);
      if (!traffic.stopped && !qp.closed) post();
    });
    traffic.posted += 1;
  };
  for (let i = 0; i < DEPTH / 2; i += 1) post();
  return traffic;
}

/** What a program does with {@link Remote} in its arguments. */
export function parseRemote(text: string): Remote {
  return JSON.parse(text) as Remote;
}
