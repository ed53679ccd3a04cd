/**
 * A process of its own for srq-life.test.ts: receives of a shared queue keep it alive while a queue pair can take them, and
 * only then. What ends it otherwise is a timer that does not hold it.
 */
import { openDevice } from '../../../lib/index.ts';

const how = process.argv[2] as 'taken' | 'no-queue-pair' | 'closed' | 'unref' | 'returned';
const device = openDevice('rxe0');
const pd = device.allocPd();
const cq = device.createCq();
const srq = pd.createSrq({ maxWr: 4 });
const mr = pd.regMrSync(Buffer.alloc(64), 1);

let says = 'idle';
setTimeout(() => {
  says = 'alive';
  process.exit();
}, 500).unref();
process.on('exit', () => console.log(says));

if (how !== 'no-queue-pair') {
  const qp = pd.createQp({ sendCq: cq, srq });
  if (how === 'closed') {
    srq.postRecv({ sges: [{ addr: mr.addr, length: 64, lkey: mr.lkey }] });
    qp.close();
  }
}
if (how === 'unref') cq.unref();
if (how !== 'closed') srq.postRecv({ sges: [{ addr: mr.addr, length: 64, lkey: mr.lkey }] });
if (how === 'returned') srq.close();
