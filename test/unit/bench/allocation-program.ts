/**
 * What V8 allocates for an operation on the null device, by the way it is posted; run with LD_PRELOAD. Prints bytes per
 * operation as JSON.
 */
import { type HeapProfiler, Session } from 'node:inspector';
import { Access, Opcode, openDevice, SendFlags, type SendWr } from '../../../lib/index.ts';

const LIST = 32;
const BYTES = 64;
const WARM = 10_000;
const LISTS = 10_000;

const device = openDevice('null0');
const pd = device.allocPd();
const cq = device.createCq({ cqe: 2 * LIST });
const qp = pd.createQp({ sendCq: cq, maxSendWr: LIST, maxRecvWr: 1 });
qp.toInit();
qp.toRtr({ destQpNum: 1, ahAttr: { grh: { dgid: '::1', sgidIndex: 0 } } });
qp.toRts();
const slab = await pd.allocSlab(LIST * BYTES, Access.LOCAL_WRITE);
const { addr } = slab;
const { lkey, rkey } = slab.mr;

let done = 0;
const onRetired = (status: number): void => {
  if (status === 0) done += 1;
};

function batch(): void {
  const sends = qp.sendBatch;
  for (let i = 0; i < LIST; i += 1) {
    const at = addr + i * BYTES;
    sends.write(at, BYTES, lkey, at, rkey, SendFlags.SIGNALED);
  }
  sends.post(onRetired);
  cq.poll();
}

function objects(): void {
  const wrs: SendWr[] = [];
  for (let i = 0; i < LIST; i += 1) {
    const at = addr + i * BYTES;
    const sges = [{ addr: at, length: BYTES, lkey }];
    wrs.push({ opcode: Opcode.RDMA_WRITE, sges, remoteAddr: at, rkey, flags: SendFlags.SIGNALED });
  }
  qp.postSend(wrs, onRetired);
  cq.poll();
}

type Node = HeapProfiler.SamplingHeapProfileNode;
const total = (node: Node): number => node.children.reduce((sum, child) => sum + total(child), node.selfSize);

async function bytesPerOperation(turn: () => void): Promise<number> {
  const times = (count: number): void => {
    for (let i = 0; i < count; i += 1) turn();
  };
  // In pieces with turns of the event loop between them, so that what has been compiled meanwhile is taken.
  for (let i = 0; i < 10; i += 1) {
    times(WARM / 10);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  const session = new Session();
  session.connect();
  const before = done;
  session.post('HeapProfiler.startSampling', {
    samplingInterval: 512,
    // What the collector has taken back in the meantime was allocated all the same.
    includeObjectsCollectedByMajorGC: true,
    includeObjectsCollectedByMinorGC: true,
  } as HeapProfiler.StartSamplingParameterType);
  times(LISTS);
  let bytes = 0;
  session.post('HeapProfiler.stopSampling', (error, { profile }) => {
    if (error !== null) throw error;
    bytes = total(profile.head);
  });
  session.disconnect();
  if (done - before !== LISTS * LIST) throw new Error(`${done - before} operations were carried out`);
  return bytes / (LISTS * LIST);
}

const way = process.argv[2] === 'batch' ? batch : objects;
console.log(JSON.stringify({ bytesPerOperation: await bytesPerOperation(way) }));
device.close();
