/**
 * A program for cycles.test.ts and long.ts: connects and closes many times, and says what has been left behind.
 * Arguments: device, host, cycles that are made before the first look, cycles that count.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { CmId, liveObjects, Opcode } from '../../../lib/index.ts';
import { ALL, DEPTH, type End, open, serve } from './connection.ts';
import { kernelObjects, openFds, processMemory, settled, stable } from './resources.ts';

const [device, host] = process.argv.slice(2) as [string, string];
const [warmUp, count] = process.argv.slice(4).map(Number) as [number, number];
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
/** The least that the process needs: what V8 has not collected yet and malloc not given back comes and goes. */
async function rss(): Promise<number> {
  let least = Number.POSITIVE_INFINITY;
  for (let round = 0; round < 10; round += 1) {
    collect();
    await sleep(20);
    least = Math.min(least, processMemory('VmRSS'));
  }
  return least;
}

const STEPS = 10;

// The pools of V8, malloc and librdmacm find their size.
await cycles(warmUp);
const before = await stable(counts);
const rssKiB = [await rss()];
let ms = 0;
for (let step = 1; step <= STEPS; step += 1) {
  ms += await cycles(Math.floor((count * step) / STEPS) - Math.floor((count * (step - 1)) / STEPS));
  rssKiB.push(await rss());
}
const after = await settled(counts, before);
console.log(
  JSON.stringify({ count, msPerCycle: Math.round((100 * ms) / count) / 100, before, after, rssKiB }),
);
await end.close();
await server.close();
