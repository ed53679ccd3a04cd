/**
 * What an operation costs a Node program on the null device, by each of the ways to post: bench/null-verbs/loop.c in
 * TypeScript.
 *
 *   node dist/bench/null-verbs/loop.js WAY LIST SIGNAL_EVERY SECONDS
 *
 * prints nanoseconds of the processor per operation, all threads of the process together.
 */
import { Access, Opcode, openDevice, type QueuePair, SendFlags, type SendWr } from '../../lib/index.ts';

const DEPTH = 256;
const BYTES = 64;

const device = openDevice('null0');
const pd = device.allocPd();
const cq = device.createCq({ cqe: 2 * DEPTH });
const qp: QueuePair = pd.createQp({ sendCq: cq, maxSendWr: DEPTH, maxRecvWr: 1 });
qp.toInit();
qp.toRtr({ destQpNum: 1, ahAttr: { grh: { dgid: '::1', sgidIndex: 0 } } });
qp.toRts();
const slab = await pd.allocSlab(DEPTH * BYTES, Access.LOCAL_WRITE);
const { addr } = slab;
const { lkey, rkey } = slab.mr;
const addressOf = (index: number): number => addr + (index % DEPTH) * BYTES;

let posted = 0;
let done = 0;
let failed = 0;
const onRetired = (status: number): void => {
  if (status !== 0) failed += 1;
  done += 1;
};

/** Into the ring, without objects. */
function batch(list: number, every: number): void {
  const sends = qp.sendBatch;
  for (let i = 0; i < list; i += 1) {
    const at = addressOf(posted + i);
    sends.write(at, BYTES, lkey, at, rkey, (i + 1) % every === 0 ? SendFlags.SIGNALED : 0);
  }
  posted += sends.post(onRetired);
  while (done !== posted) cq.poll();
}

function writeOf(index: number, flags: number): SendWr {
  const at = addressOf(index);
  return {
    opcode: Opcode.RDMA_WRITE,
    sges: [{ addr: at, length: BYTES, lkey }],
    remoteAddr: at,
    rkey,
    flags,
  };
}

/** A list of objects with one call. */
function objects(list: number, every: number): void {
  const wrs: SendWr[] = [];
  for (let i = 0; i < list; i += 1) {
    wrs.push(writeOf(posted + i, (i + 1) % every === 0 ? SendFlags.SIGNALED : 0));
  }
  qp.postSend(wrs, onRetired);
  posted += list;
  while (done !== posted) cq.poll();
}

/** A promise for every operation; the event loop brings the completions. */
async function promises(list: number): Promise<void> {
  const sends: Promise<unknown>[] = [];
  for (let i = 0; i < list; i += 1) sends.push(qp.send(writeOf(posted + i, 0)));
  posted += list;
  await Promise.all(sends);
}

const ways: Record<string, (list: number, every: number) => void | Promise<void>> = {
  batch,
  objects,
  promises,
};

/** Nanoseconds of the processor since the process began. */
function now(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) * 1000;
}

async function measure(way: string, list: number, every: number, seconds: number): Promise<number> {
  const turn = ways[way];
  if (turn === undefined) throw new Error(`${way} is none of ${Object.keys(ways).join(', ')}`);
  const first = now();
  let start = first;
  let startCount = posted;
  for (;;) {
    for (let i = 0; i < 1000; i += 1) {
      const waiting = turn(list, every);
      if (waiting !== undefined) await waiting;
    }
    const time = now();
    // The first third warms up: it is compiled meanwhile.
    if (start === first) {
      if (time - first < (seconds * 1e9) / 3) continue;
      start = time;
      startCount = posted;
    } else if (time - first > seconds * 1e9) {
      return (time - start) / (posted - startCount);
    }
  }
}

const [way = '', list, every, seconds] = process.argv.slice(2);
const cost = await measure(way, Number(list), Number(every), Number(seconds));
if (failed > 0) throw new Error(`${failed} operations failed`);
console.log(cost.toFixed(2));
device.close();
