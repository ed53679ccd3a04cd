/**
 * One end of the tests of sockets between two machines, run on either:
 *
 *   serve HOST PORT | call HOST PORT      both write 50 large messages before either reads, and say the SHA-256 of what came
 *   listen HOST PORT | watch HOST PORT    the watching end says what its keepalive finds
 */
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { finished } from 'node:stream/promises';
import { connect, createServer, type RdmaSocket } from '../../lib/net/index.ts';

const MESSAGES = 50;
const MESSAGE_BYTES = 200_000;

/** Writes everything and only then reads; resolves at the end of both directions. */
async function talk(socket: RdmaSocket): Promise<void> {
  for (let i = 0; i < MESSAGES; i += 1) socket.write(Buffer.alloc(MESSAGE_BYTES, i));
  socket.end();
  const hash = createHash('sha256');
  socket.on('data', (chunk: Buffer) => hash.update(chunk));
  await finished(socket);
  console.log(hash.digest('hex'));
}

const [role, host, port] = process.argv.slice(2) as [string, string, string];
const where = { host, port: Number(port) };
if (role === 'serve' || role === 'listen') {
  const server = createServer({ allowHalfOpen: role === 'serve' }).listen(where);
  await once(server, 'listening');
  console.log('listening');
  const [socket] = (await once(server, 'connection')) as [RdmaSocket];
  if (role === 'serve') {
    await talk(socket);
    server.close();
  } else {
    socket.on('error', () => undefined).resume();
  }
} else {
  const socket = connect({ ...where, allowHalfOpen: true });
  await once(socket, 'connect');
  if (role === 'call') {
    await talk(socket);
  } else {
    socket.setKeepAlive(true, 200);
    console.log('connected');
    const [error] = await once(socket, 'error');
    console.log((error as NodeJS.ErrnoException).code);
  }
}
