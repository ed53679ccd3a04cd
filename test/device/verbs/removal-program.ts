/** A process of its own for removal.test.ts: makes an RDMA device, uses it, and has it removed under its feet. */
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  CmId,
  listDevices,
  liveObjects,
  openDevice,
  type QueuePair,
  type RdmaError,
} from '../../../lib/index.ts';

const [driver, how] = process.argv.slice(2) as ['rxe' | 'siw', 'link' | 'netdev'];
const name = `${driver}9`;
const netdev = `${driver}9-net`;
const host = '10.0.9.1';
const run = (command: string, ...args: string[]) => execFileSync(command, args, { stdio: 'inherit' });

function makeDevice(): void {
  run('ip', 'link', 'add', netdev, 'type', 'dummy');
  run('ip', 'addr', 'add', `${host}/24`, 'dev', netdev);
  run('ip', 'link', 'set', netdev, 'up');
  run('rdma', 'link', 'add', name, 'type', driver, 'netdev', netdev);
}

makeDevice();
// Another device of this process holds on to librdmacm too.
const other = openDevice(driver === 'rxe' ? 'siw0' : 'rxe0');
const device = openDevice(name);
const pd = device.allocPd();
const cq = device.createCq();
const listener = new CmId();
listener.bind({ host, port: 0 });
listener.listen();
const accepted = new Promise<CmId>((resolve, reject) => {
  listener.once('connectRequest', (id) => {
    id.createQp({ pd, sendCq: cq });
    id.accept().then(() => resolve(id), reject);
  });
});
const client = new CmId();
await client.resolveAddr({ host, port: listener.localAddress!.port });
await client.resolveRoute();
client.createQp({ pd, sendCq: cq });
const [, server] = await Promise.all([client.connect(), accepted]);
const mr = pd.regMrSync(Buffer.alloc(4096), 7);
const receive = (qp: QueuePair) =>
  qp.recv({ sges: [{ addr: mr.addr, length: 64, lkey: mr.lkey }] }).then(
    () => 'received',
    (error: RdmaError) => error.code,
  );
const inFlight = Promise.all([client.qp!, server.qp!].map(receive));

const events: string[] = [];
const ids = { client, server, listener };
for (const [who, id] of Object.entries(ids))
  id.on('event', ({ name: what }) => events.push(`${who} ${what}`));
other.on('event', ({ type }) => events.push(`other ${type}`));
device.on('DEVICE_REMOVED', ({ type }) => {
  events.push(`${type} ${client.qp!.state}`);
});
const removal =
  how === 'link'
    ? spawn('rdma', ['link', 'delete', name], { stdio: 'inherit' })
    : spawn('ip', ['link', 'delete', netdev], { stdio: 'inherit' });
const [status] = await once(removal, 'exit');
const retired = await inFlight;
const closed = [device, pd, cq, mr, client, server, listener].map((object) => object.closed);
const names = listDevices().map((info) => info.name);
const objects = liveObjects();

// The name may be used again.
if (how === 'netdev') makeDevice();
else run('rdma', 'link', 'add', name, 'type', driver, 'netdev', netdev);
const again = openDevice(name);
const state = again.queryPort().state;
again.close();
other.close();
process.stdout.write(JSON.stringify({ events, status, retired, closed, names, objects, state }));
