/** A program for closing.test.ts: closes the objects of a connection that carries data, in every order. */
import { setImmediate as turn } from 'node:timers/promises';
import {
  Access,
  CmId,
  EventChannel,
  liveObjects,
  Opcode,
  openDevice,
  RdmaError,
  SendFlags,
} from '../../../lib/index.ts';
import { closingOrders } from './orders.ts';
import { kernelObjects, settled } from './resources.ts';

/** Of the orders every [share]-th is tried. */
const [deviceName, host, share] = process.argv.slice(2) as [string, string, string];
const SIZE = 16 * 1024;
const LOCAL = Access.LOCAL_WRITE;
const DEPTH = 4;

/** What goes along with each object (native/core/object.h). */
const closing = {
  qp: [],
  cq: ['qp'],
  mr: [],
  slab: [],
  id: ['qp'],
  channel: ['id', 'qp'],
  pd: ['qp', 'mr', 'slab'],
  device: ['pd', 'cq', 'qp', 'mr', 'slab'],
};

/** The end that all connections go to. */
async function startPeer() {
  const device = openDevice(deviceName);
  const pd = device.allocPd();
  const cq = device.createCq();
  const slab = await pd.allocSlab(SIZE, LOCAL | Access.REMOTE_WRITE | Access.REMOTE_READ);
  const listener = new CmId();
  listener.bind({ host, port: 0 });
  listener.listen();
  listener.on('connectRequest', (id) => {
    const qp = id.createQp({ pd, sendCq: cq, maxSendWr: DEPTH, maxRecvWr: DEPTH });
    const sges = [{ addr: slab.addr, length: 1024, lkey: slab.mr.lkey }];
    qp.postRecv({ sges }, (status) => {
      // An answer, so that the other end's receives are used too; its sender may be gone.
      if (status === 0 && !qp.closed) qp.postSend({ opcode: Opcode.SEND, sges, flags: SendFlags.SIGNALED });
    });
    id.on('disconnected', () => id.close());
    // The other end may be closed before this one is established.
    id.accept().catch(() => undefined);
  });
  return { listener, mr: slab.mr, port: listener.localAddress!.port, close: () => device.close() };
}
type Peer = Awaited<ReturnType<typeof startPeer>>;

/** A connection to the peer, with writes and receives in flight that are posted anew when they have been retired. */
async function connect(peer: Peer) {
  const device = openDevice(deviceName);
  const pd = device.allocPd();
  const cq = device.createCq({ cqe: 64 });
  const mr = pd.regMrSync(Buffer.alloc(SIZE), LOCAL);
  const slab = await pd.allocSlab(SIZE, LOCAL);
  const channel = new EventChannel();
  const id = new CmId({ channel });
  await id.resolveAddr({ host, port: peer.port });
  await id.resolveRoute();
  const qp = id.createQp({ pd, sendCq: cq, maxSendWr: DEPTH, maxRecvWr: DEPTH });
  const count = { posted: 0, retired: 0 };
  const post = (send: boolean, opcode: 0 | 2 = Opcode.RDMA_WRITE) => {
    const region = send ? mr : slab.mr;
    const length = opcode === Opcode.SEND ? 64 : SIZE;
    const sges = [{ addr: region.addr, length, lkey: region.lkey }];
    const retired = (status: number) => {
      count.retired += 1;
      if (status === 0) post(send);
    };
    try {
      if (send) {
        const flags = SendFlags.SIGNALED;
        const to = { remoteAddr: peer.mr.addr, rkey: peer.mr.rkey };
        const send = { opcode: Opcode.SEND, sges, flags };
        const write = { opcode: Opcode.RDMA_WRITE, sges, flags, ...to };
        qp.postSend(opcode === Opcode.SEND ? send : write, retired);
      } else {
        qp.postRecv({ sges }, retired);
      }
      count.posted += 1;
    } catch (error) {
      // Its region or the queue pair itself has been closed.
      const known = error instanceof RdmaError && /is closed|no open memory region/.test(error.message);
      if (!known) throw error;
    }
  };
  for (let i = 0; i < DEPTH; i += 1) post(false);
  await id.connect();
  post(true, Opcode.SEND);
  for (let i = 1; i < DEPTH; i += 1) post(true);
  return { count, objects: { qp, cq, mr, slab, id, channel, pd, device } };
}

async function closeIn(order: readonly string[], peer: Peer, atOnce: boolean): Promise<void> {
  const before = liveObjects();
  const { count, objects } = await connect(peer);
  const closes = [];
  for (const name of order) {
    closes.push(objects[name as keyof typeof objects].close());
    if (!atOnce) await turn();
  }
  await Promise.all(closes);
  // The peer hears of the end, and lets its side go.
  for (let i = 0; i < 1000 && (liveObjects() > before || count.retired < count.posted); i += 1) await turn();
  if (count.retired !== count.posted) throw new Error(`${count.posted} posted, but ${count.retired} retired`);
  if (liveObjects() > before) throw new Error(`${liveObjects()} objects are left of ${before}`);
}

const peer = await startPeer();
// The first connection leaves what librdmacm and lib/cm keep for good: their own contexts of the device.
await closeIn(Object.keys(closing), peer, true).catch(() => undefined);
const kernelBefore = kernelObjects(deviceName);
const orders = [...closingOrders(closing)].filter((_, i) => i % Number(share) === 0);
let atOnce = false;
for (const order of orders) {
  atOnce = !atOnce;
  try {
    await closeIn(order, peer, atOnce);
  } catch (error) {
    throw new Error(`closing ${order} ${atOnce ? 'at once' : 'one by one'}`, { cause: error });
  }
}
const kernelAfter = await settled(() => kernelObjects(deviceName), kernelBefore);
console.log(JSON.stringify({ orders: orders.length, kernelBefore, kernelAfter }));
peer.listener.close();
peer.close();
