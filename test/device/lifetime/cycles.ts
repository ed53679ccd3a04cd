/**
 * A program for cycles.test.ts, and for a long run by hand: connects and closes many times, and says what has been left
 * behind. Arguments: device, host, count.
 */
import { CmId, liveObjects, Opcode } from '../../../lib/index.ts';
import { ALL, DEPTH, type End, open, serve } from './connection.ts';
import { kernelObjects, openFds, processMemory, settled, stable } from './resources.ts';

const [device, host, count] = process.argv.slice(2) as [string, string, string];
/** Connections at a time. */
const LANES = 4;
const collect = (globalThis as unknown as { gc: () => void }).gc;

/** Connects, sends a message from memory that is registered for it, and closes both. */
async function cycle(end: End, port: number): Promise<void> {
  const id = new CmId();
  await id.resolveAddr({ host, port });
  await id.resolveRoute();
  const qp = id.createQp({ pd: end.pd, sendCq: end.cq, maxSendWr: DEPTH, maxRecvWr: DEPTH });
  const mr = end.pd.regMrSync(Buffer.alloc(4096), ALL);
  // In flight when everything is closed.
  qp.postRecv({ sges: [{ addr: mr.addr, length: 64, lkey: mr.lkey }] });
  await id.connect();
  await qp.send({ opcode: Opcode.SEND, sges: [{ addr: mr.addr, length: 64, lkey: mr.lkey }] });
  id.close();
  await mr.close();
}

const server = await serve(device, host);
const end = await open(device);
async function cycles(total: number): Promise<number> {
  const start = performance.now();
  let left = total;
  const lane = async () => {
    for (; left > 0; ) {
      left -= 1;
      await cycle(end, server.remote.port);
    }
  };
  await Promise.all(Array.from({ length: LANES }, lane));
  return performance.now() - start;
}

const counts = () => ({
  kernel: kernelObjects(device),
  fds: openFds(),
  pinnedKiB: processMemory('VmPin'),
  objects: liveObjects(),
  connections: server.ids.size,
});
const rss = () => {
  collect();
  return processMemory('VmRSS');
};

// The first half: the pools of V8, malloc and librdmacm find their size.
await cycles(Number(count) / 2);
const before = await stable(counts);
const rssBefore = rss();
const ms = await cycles(Number(count) / 2);
const after = await settled(counts, before);
console.log(
  JSON.stringify({
    count: Number(count),
    msPerCycle: (2 * ms) / Number(count),
    before,
    after,
    rssGrowthKiB: rss() - rssBefore,
  }),
);
await end.close();
await server.close();
