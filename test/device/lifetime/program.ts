/** A process of its own for end.test.ts: makes traffic between two queue pairs and ends as it is told to. */
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { isMainThread, Worker, workerData } from 'node:worker_threads';
import { CmId, liveObjects, Opcode, openDevice, SendFlags } from '../../../lib/index.ts';

type How = 'natural' | 'close' | 'exit' | 'throw' | 'collect' | 'worker-exit' | 'worker-terminate' | 'run';

const [how, deviceName, host] = (isMainThread ? process.argv.slice(2) : workerData) as [How, string, string];

/** Two connected queue pairs that write to each other without end, with receives posted and never met. */
async function traffic(onWrite: (count: number) => void): Promise<(devices: boolean) => void> {
  const device = openDevice(deviceName);
  const pd = device.allocPd();
  const cq = device.createCq();
  const slab = await pd.allocSlab(1 << 20, 7);
  const { addr, lkey, rkey } = slab.mr;
  const listener = new CmId();
  listener.bind({ host, port: 0 });
  listener.listen();
  listener.on('connectRequest', (id) => {
    id.createQp({ pd, sendCq: cq }).postRecv({ sges: [{ addr, length: 64, lkey }] });
    id.accept().catch(() => undefined);
  });
  const client = new CmId();
  await client.resolveAddr({ host, port: listener.localAddress!.port });
  await client.resolveRoute();
  const qp = client.createQp({ pd, sendCq: cq });
  await client.connect();
  let count = 0;
  let stopped = false;
  const post = () => {
    if (stopped) return;
    const wr = {
      opcode: Opcode.RDMA_WRITE,
      sges: [{ addr, length: 65536, lkey }],
      remoteAddr: addr + 65536,
      rkey,
    };
    qp.postSend({ ...wr, flags: SendFlags.SIGNALED }, (status) => {
      if (status !== 0) return;
      count += 1;
      post();
      onWrite(count);
    });
  };
  for (let i = 0; i < 4; i += 1) post();
  return (devices) => {
    stopped = true;
    client.close();
    listener.close();
    if (devices) device.close();
  };
}

async function collect(): Promise<void> {
  const device = openDevice(deviceName);
  (() => {
    const pd = device.allocPd();
    for (let i = 0; i < 10; i += 1) pd.regMrSync(Buffer.alloc(4096), 1);
  })();
  const collectGarbage = (globalThis as { gc?: () => void }).gc!;
  for (let i = 0; i < 50 && liveObjects() > 1; i += 1) {
    collectGarbage();
    await sleep(10);
  }
  device.close();
  console.log(`traffic of none; objects left: ${liveObjects()}`);
}

async function inWorker(terminate: boolean): Promise<void> {
  const worker = new Worker(fileURLToPath(import.meta.url), {
    workerData: [terminate ? 'run' : 'exit', deviceName, host],
  });
  const ended = new Promise<number>((resolve) => {
    worker.on('exit', resolve);
  });
  if (terminate) {
    await new Promise((resolve) => {
      worker.on('message', resolve);
    });
    await worker.terminate();
  }
  const code = await ended;
  if (code !== (terminate ? 1 : 7)) throw new Error(`the worker ended with ${code}`);
  // The thread's devices are gone; the process can go on with its own.
  const stop = await traffic(() => undefined);
  stop(true);
  console.log('traffic after the worker');
}

if (how === 'collect') await collect();
else if (how === 'worker-exit') await inWorker(false);
else if (how === 'worker-terminate') await inWorker(true);
else {
  const stop = await traffic((count) => {
    if (count !== 20) return;
    if (isMainThread) console.log('traffic');
    if (how === 'close') stop(true);
    if (how === 'exit') process.exit(7);
    if (how === 'throw') throw new Error('thrown in a completion callback');
    if (how === 'run')
      import('node:worker_threads').then(({ parentPort }) => parentPort!.postMessage('traffic'));
    // The device, its domain, queues and memory stay open; the peer hears of the end and flushes.
    if (how === 'natural') stop(false);
  });
}
