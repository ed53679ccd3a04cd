/** A process of its own for resize-unmapped.test.ts: resizes queues while it may map no more memory. */
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { openDevice, type RdmaError } from '../../../lib/index.ts';

const device = openDevice('rxe0');
const pd = device.allocPd();
const cq = device.createCq({ cqe: 200 });
const srq = pd.createSrq({ maxWr: 10_000, maxSge: 8 });
// The ring that JavaScript fills keeps its size: only the device's memory is mapped anew.
srq.modify({ maxWr: 16 });
const mr = pd.regMrSync(Buffer.alloc(64), 1);
pd.createQp({ sendCq: device.createCq({ cqe: 20_000 }), srq });
const statuses: number[] = [];
srq.postRecv({ sges: [{ addr: mr.addr, length: 64, lkey: mr.lkey }] }, (status) => statuses.push(status));
const qp = pd.createQp({ sendCq: cq });
qp.toInit();
qp.postRecv({ sges: [{ addr: mr.addr, length: 64, lkey: mr.lkey }] }, (status) => statuses.push(status));

function setLimit(bytes: number | 'unlimited'): void {
  execFileSync('prlimit', ['--pid', String(process.pid), `--as=${bytes}:unlimited`]);
}
/** Less than the queues' rings, and enough for the little that is allocated besides. */
const ROOM = 1536 << 10;
const failure = (action: () => void): string => {
  const pages = Number(readFileSync('/proc/self/statm', 'latin1').split(' ')[0]);
  setLimit(pages * 4096 + ROOM);
  let text = 'resized';
  try {
    action();
  } catch (error) {
    text = `${(error as RdmaError).code} ${(error as RdmaError).syscall}`;
  }
  setLimit('unlimited');
  return text;
};
console.log(
  failure(() => cq.resize(30_000)),
  cq.closed,
  qp.closed,
);
console.log(
  failure(() => srq.modify({ maxWr: 10_000 })),
  srq.closed,
);
console.log(statuses.join());
device.close();
