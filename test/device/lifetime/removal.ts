/** A program for removal.test.ts: its device is deleted while data flows. */
import { execFile, execFileSync } from 'node:child_process';
import { promisify } from 'node:util';
import { CmId, listDevices, openDevice, RdmaError } from '../../../lib/index.ts';
import { connectedPair } from '../helpers/pair.ts';
import { connectTo, keepWriting, serve } from './connection.ts';
import { eventually } from './resources.ts';

const [kind, neighbour] = process.argv.slice(2) as ['rxe' | 'siw', 'rxe0' | 'siw0'];
const name = `${kind}9`;
const netdev = `${kind}9-net`;
const host = kind === 'rxe' ? '10.9.1.1' : '10.9.2.1';
const run = promisify(execFile);
const addDevice = () => run('rdma', ['link', 'add', name, 'type', kind, 'netdev', netdev]);
const codeOf = async (action: () => unknown) => {
  try {
    await action();
    return 'none';
  } catch (error) {
    if (!(error instanceof RdmaError)) throw error;
    return error.code;
  }
};

execFileSync('ip', ['link', 'add', netdev, 'address', '02:00:00:00:09:01', 'mtu', '9000', 'type', 'dummy']);
execFileSync('ip', ['link', 'set', netdev, 'up']);
execFileSync('ip', ['addr', 'add', `${host}/24`, 'dev', netdev]);
await addDevice();

const server = await serve(name, host);
const client = await connectTo(name, host, server.remote.port);
const received = codeOf(() => client.qp.recv({ sges: [] }));
const traffic = keepWriting(client.qp, client.slab.mr, server.remote);
await eventually(() => traffic.completed > 20);

// rxe and siw cannot take a device from a process that has it open: this ends because the library lets go of it.
await run('rdma', ['link', 'delete', name]);
await eventually(() => listDevices().every((device) => device.name !== name));

const idDevice = client.id.device;
await client.close();
await server.close();
idDevice?.close();
await eventually(() => traffic.completed + traffic.flushed === traffic.posted);
const opening = await codeOf(() => openDevice(name));
const connecting = await codeOf(() => new CmId().resolveAddr({ host, port: server.remote.port }));

// The process goes on: with another device, and with one that comes by the old name.
await (await connectedPair(neighbour)).close();
await addDevice();
const again = await serve(name, host);
const next = await connectTo(name, host, again.remote.port);
const more = keepWriting(next.qp, next.slab.mr, again.remote);
await eventually(() => more.completed > 20);
more.stopped = true;
await next.close();
await again.close();
const report = {
  traffic,
  opening,
  connecting,
  received: await received,
  again: more.completed > 20,
};
console.log(JSON.stringify(report));
