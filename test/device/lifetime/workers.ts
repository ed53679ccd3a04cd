/** A program for workers.test.ts: workers that are terminated in the middle of something, and many that just end. */
import { setImmediate as turn } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import { CmId, openDevice } from '../../../lib/index.ts';
import { ALL, connectTo, keepWriting, type Remote, serve } from './connection.ts';
import { eventually, kernelObjects, openFds, stable } from './resources.ts';

/** What a worker is terminated in the middle of, in the order in which it comes to it. */
const steps = [
  'open',
  'domain',
  'registering',
  'memory',
  'deregistering',
  'queue',
  'id',
  'resolving',
  'resolved',
  'routing',
  'queue pair',
  'connecting',
  'connected',
  'posting',
  'writing',
  'disconnecting',
  'closing',
] as const;
type Step = (typeof steps)[number];

interface Task {
  readonly step: Step | 'end' | 'leave' | 'exit';
  readonly device: string;
  readonly host: string;
  readonly remote: Remote;
}

/** Stops here for good if this is the step: says so, and holds the thread so that nothing more happens in it. */
function reach(step: Step, task: Task): void {
  if (step !== task.step) return;
  parentPort!.postMessage(step);
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
}

/** Goes through all steps; those in -ing are begun but not awaited when the thread stops. */
async function goThrough(task: Task): Promise<void> {
  const { host, remote } = task;
  const device = openDevice(task.device);
  reach('open', task);
  const pd = device.allocPd();
  reach('domain', task);
  const registering = [pd.regMr(Buffer.alloc(1 << 20), ALL), pd.allocSlab(1 << 20, ALL).then(({ mr }) => mr)];
  reach('registering', task);
  const [mr, slabMr] = await Promise.all(registering);
  reach('memory', task);
  const gone = slabMr!.close();
  reach('deregistering', task);
  await gone;
  const cq = device.createCq();
  reach('queue', task);
  const id = new CmId();
  reach('id', task);
  const resolving = id.resolveAddr({ host, port: remote.port });
  reach('resolving', task);
  await resolving;
  reach('resolved', task);
  const routing = id.resolveRoute();
  reach('routing', task);
  await routing;
  const qp = id.createQp({ pd, sendCq: cq, maxSendWr: 16, maxRecvWr: 16 });
  reach('queue pair', task);
  const connecting = id.connect();
  reach('connecting', task);
  await connecting;
  reach('connected', task);
  qp.postRecv({ sges: [{ addr: mr!.addr, length: 64, lkey: mr!.lkey }] });
  const traffic = keepWriting(qp, mr!, remote);
  reach('posting', task);
  while (traffic.completed < 20) await turn();
  reach('writing', task);
  traffic.stopped = true;
  id.disconnect();
  reach('disconnecting', task);
  void mr!.close();
  id.close();
  device.close();
  reach('closing', task);
  throw new Error(`there is no step ${task.step}`);
}

/** Connects, reads what the server has, and ends in one of three ways. */
async function readAndEnd(task: Task): Promise<void> {
  const client = await connectTo(task.device, task.host, task.remote.port);
  const sges = [{ addr: client.slab.addr, length: 4096, lkey: client.slab.mr.lkey }];
  await client.qp.send({ opcode: 4, sges, remoteAddr: task.remote.addr, rkey: task.remote.rkey });
  const right = new Uint8Array(client.slab.buffer, 0, 4096).every((byte, i) => byte === (i & 0xff));
  parentPort!.postMessage(right ? 'right' : 'wrong');
  if (task.step === 'end') await client.close();
  if (task.step === 'exit') process.exit(0);
  // To leave is to end with everything open: the connection keeps no thread alive that has nothing in flight.
  if (task.step === 'leave') client.id.disconnect();
}

function start(task: Task): { worker: Worker; said: Promise<string>; ended: Promise<number> } {
  const worker = new Worker(fileURLToPath(import.meta.url), { workerData: task });
  const ended = new Promise<number>((resolve) => {
    worker.on('exit', resolve);
  });
  const said = new Promise<string>((resolve, reject) => {
    worker.on('message', resolve);
    worker.on('error', reject);
    ended.then((code) => reject(new Error(`the worker ended with ${code} before ${task.step}`)));
  });
  return { worker, said, ended };
}

async function inMain(): Promise<void> {
  const [what, device, host, count] = process.argv.slice(2) as [string, string, string, string];
  const server = await serve(device, host);
  new Uint8Array(server.slab.buffer, 0, 4096).forEach((_, i, all) => {
    all[i] = i;
  });
  const task = { device, host, remote: server.remote };
  // What is kept for good after a first connection, and a first worker, is not counted.
  await (await connectTo(device, host, server.remote.port)).close();
  await start({ ...task, step: 'end' }).ended;
  const look = () => ({ kernel: kernelObjects(device), fds: openFds(), connections: server.ids.size });
  const before = await stable(look);
  const results: Record<string, number> = {};
  if (what === 'terminate') {
    for (const step of steps) {
      const { worker, said, ended } = start({ ...task, step });
      if ((await said) !== step) throw new Error(`the worker is not in ${step}`);
      await worker.terminate();
      results[step] = await ended;
    }
  } else {
    const ways = ['end', 'leave', 'exit'] as const;
    let next = 0;
    const lane = async () => {
      while (next < Number(count)) {
        const { said, ended } = start({ ...task, step: ways[next++ % ways.length]! });
        const result = `${await said} ${await ended}`;
        results[result] = (results[result] ?? 0) + 1;
      }
    };
    await Promise.all([lane(), lane(), lane(), lane()]);
  }
  await eventually(() => JSON.stringify(look()) === JSON.stringify(before));
  const after = look();
  // The process goes on.
  const client = await connectTo(device, host, server.remote.port);
  const traffic = keepWriting(client.qp, client.slab.mr, server.remote);
  const works = await eventually(() => traffic.completed > 20);
  await client.close();
  await server.close();
  console.log(JSON.stringify({ results, before, after, works }));
}

if (isMainThread) await inMain();
else if (steps.includes((workerData as Task).step as Step)) await goThrough(workerData as Task);
else await readAndEnd(workerData as Task);
