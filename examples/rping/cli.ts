#!/usr/bin/env node
/** The command, with the options of rping(1). */
import { Command, InvalidArgumentError } from 'commander';
import { ping } from './client.ts';
import { DEFAULT_PORT } from './protocol.ts';
import { serve } from './server.ts';

interface Options {
  server?: boolean;
  client?: boolean;
  address?: string;
  port: number;
  count: number;
  size: number;
  verbose?: boolean;
  validate?: boolean;
  persistent?: boolean;
}

function parseWhole(text: string): number {
  if (!/^\d+$/.test(text)) throw new InvalidArgumentError('Give a whole number.');
  return Number(text);
}

async function run(options: Options): Promise<void> {
  const { address, port, count, size, validate = false, verbose, persistent = false } = options;
  if (Boolean(options.server) === Boolean(options.client))
    throw new Error('give either -s (server) or -c (client)');
  if (options.server) {
    const interrupted = new AbortController();
    process.once('SIGINT', () => interrupted.abort()).once('SIGTERM', () => interrupted.abort());
    await serve({
      host: address ?? '0.0.0.0',
      port,
      persistent,
      signal: interrupted.signal,
      onListening: () => console.log(`listening on port ${port}`),
      onError: (error) => console.error(`error: ${error.message}`),
      ...(verbose && { onPing: (text: string) => console.log(`server ping data: ${text}`) }),
    });
    return;
  }
  if (address === undefined) throw new Error('give the address of the server: -a address');
  await ping({
    host: address,
    port,
    count,
    size,
    validate,
    ...(verbose && { onPing: (text: string) => console.log(`ping data: ${text}`) }),
  });
}

try {
  await new Command('rping')
    .description('rping in Node: works with rping of rdmacm-utils at the other end.')
    .option('-s, --server', 'be the server')
    .option('-c, --client', 'be the client')
    .option('-a, --address <address>', 'address of the server')
    .option('-p, --port <port>', 'port of the server', parseWhole, DEFAULT_PORT)
    .option('-C, --count <n>', 'number of pings; 0 for ever', parseWhole, 0)
    .option('-S, --size <bytes>', 'bytes of a ping', parseWhole, 64)
    .option('-v, --verbose', 'print the pings')
    .option('-V, --validate', 'compare what comes back with what was sent')
    .option('-P, --persistent', 'as a server, serve client after client')
    .action(run)
    .parseAsync();
} catch (error) {
  console.error(`error: ${(error as Error).message}`);
  process.exitCode = 1;
}
