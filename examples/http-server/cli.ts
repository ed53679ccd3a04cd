#!/usr/bin/env node
/** An HTTP server over RDMA, and the client for it: node:http, with two lines changed. */
import { createHash } from 'node:crypto';
import http, { type IncomingMessage, type ServerResponse } from 'node:http';
import { pipeline } from 'node:stream/promises';
import { Command } from 'commander';
import { Agent, createServer } from '../../lib/net/adapters/http.ts';
import { port } from '../common/arguments.ts';

const BLOCK = Buffer.alloc(65536, 'node-rdma ');

function* blocks(bytes: number): Generator<Buffer> {
  for (let left = bytes; left > 0; left -= BLOCK.length) yield BLOCK.subarray(0, left);
}

/** GET /: a greeting; GET /bytes/N: N bytes; POST: the SHA-256 of the body. */
async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
  const [, bytes] = /^\/bytes\/(\d{1,15})$/.exec(request.url ?? '') ?? [];
  if (request.method === 'POST') {
    const hash = createHash('sha256');
    await pipeline(request, hash);
    response.end(`${hash.digest('hex')}\n`);
  } else if (bytes !== undefined) {
    response.setHeader('Content-Length', bytes);
    await pipeline(blocks(Number(bytes)), response);
  } else if (request.url === '/') {
    response.end(`Hello ${request.socket.remoteAddress}, this is HTTP over RDMA.\n`);
  } else {
    response.writeHead(404).end('Not found\n');
  }
}

async function serve(options: { host?: string; port: number }): Promise<void> {
  const server = createServer((request, response) => {
    answer(request, response).catch((error: Error) => {
      console.error(`${request.method} ${request.url}: ${error.message}`);
      response.destroy();
    });
  });
  const stop = () => {
    server.close();
    server.closeAllConnections();
  };
  process.once('SIGINT', stop).once('SIGTERM', stop);
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject).once('close', resolve);
    server.listen(options, () =>
      console.log(`listening on port ${(server.address() as { port: number }).port}`),
    );
  });
}

async function get(url: string): Promise<void> {
  const agent = new Agent();
  const response = await new Promise<IncomingMessage>((resolve, reject) => {
    http.get(url, { agent }, resolve).once('error', reject);
  });
  await pipeline(response, process.stdout);
  if (response.statusCode !== 200)
    throw new Error(`${url}: ${response.statusCode} ${response.statusMessage}`);
}

const program = new Command('http-server').description('HTTP over RDMA.');
program
  .command('serve')
  .option('--host <address>', 'address to listen on; all by default')
  .option('--port <port>', 'port; 0 for any', port, 8080)
  .action(serve);
program.command('get <url>').description('prints what is there').action(get);
try {
  await program.parseAsync();
} catch (error) {
  console.error(`error: ${(error as Error).message}`);
  process.exitCode = 1;
}
