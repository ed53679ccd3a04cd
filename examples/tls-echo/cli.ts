#!/usr/bin/env node
/** An echo under TLS over RDMA: node:tls on both sides. */
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { pipeline } from 'node:stream/promises';
import { Command } from 'commander';
import { connect, createServer } from '../../lib/net/adapters/tls.ts';
import { port } from '../common/arguments.ts';

interface ServeOptions {
  readonly host?: string;
  readonly port: number;
  readonly cert: string;
  readonly key: string;
}

async function serve({ cert, key, ...where }: ServeOptions): Promise<void> {
  const options = { cert: readFileSync(cert), key: readFileSync(key), allowHalfOpen: true };
  const server = createServer(options, (socket) => {
    console.log(`${socket.remoteAddress}: ${socket.getProtocol()} ${socket.getCipher().name}`);
    pipeline(socket, socket).catch((error: Error) => console.error(`error: ${error.message}`));
  });
  server.on('tlsClientError', (error) => console.error(`error: ${error.message}`));
  server.listen(where);
  await once(server, 'listening');
  console.log(`listening on port ${(server.address() as { port: number }).port}`);
  const stop = () => void server.close();
  process.once('SIGINT', stop).once('SIGTERM', stop);
  await once(server, 'close');
}

interface EchoOptions {
  readonly host: string;
  readonly port: number;
  readonly ca: string;
  readonly name?: string;
}

/** Sends standard input, and prints what comes back. */
async function echo({ host, port: to, ca, name }: EchoOptions): Promise<void> {
  const servername = name === undefined ? {} : { servername: name };
  const socket = connect({ host, port: to, ca: readFileSync(ca), ...servername });
  await once(socket, 'secureConnect');
  await Promise.all([pipeline(process.stdin, socket), pipeline(socket, process.stdout, { end: false })]);
}

const program = new Command('tls-echo').description('An echo under TLS over RDMA.');
program
  .command('serve')
  .option('--host <address>', 'address to listen on; all by default')
  .option('--port <port>', 'port; 0 for any', port, 7443)
  .requiredOption('--cert <file>', 'certificate, PEM')
  .requiredOption('--key <file>', 'its key, PEM')
  .action(serve);
program
  .command('echo')
  .description('sends standard input, and prints what comes back')
  .requiredOption('--host <address>', 'address of the server')
  .option('--port <port>', 'its port', port, 7443)
  .requiredOption('--ca <file>', 'certificate that vouches for the server, PEM')
  .option('--name <name>', 'name in its certificate; the host by default')
  .action(echo);
try {
  await program.parseAsync();
} catch (error) {
  console.error(`error: ${(error as Error).message}`);
  process.exitCode = 1;
}
