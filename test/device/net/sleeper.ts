/** A process that connects, says that it is alive, and sleeps; with 'unref' it does not wait for its socket. */
import { once } from 'node:events';
import { connect } from '../../../lib/net/index.ts';

const [host, port, unref] = process.argv.slice(2) as [string, string, string?];
const socket = connect({ host, port: Number(port) });
await once(socket, 'connect');
socket.write('alive', () => {
  if (unref !== undefined) socket.unref();
});
