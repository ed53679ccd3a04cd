#!/usr/bin/env node
/** The commands, with the options of rdmacm-utils' programs. */
import { Command, InvalidArgumentError } from 'commander';
import { type CmatoseOptions, cmatoseClient, cmatoseServer } from './cmatose.ts';
import { mckey } from './mckey.ts';
import { rdmaClient, rdmaServer } from './rdma-client-server.ts';
import { udaddyClient, udaddyServer } from './udaddy.ts';

function parseWhole(text: string): number {
  if (!/^(\d+|0x[\da-f]+)$/i.test(text)) throw new InvalidArgumentError('Give a whole number.');
  return Number(text);
}

const listening = (port: number) => () => console.log(`listening on port ${port}`);

interface EchoFlags {
  server?: string;
  bind?: string;
  connections: number;
  count: number;
  size: number;
  tos?: number;
  port: number;
  migrate?: boolean;
}

async function runEcho(
  flags: EchoFlags,
  client: (options: CmatoseOptions) => Promise<void>,
  server: (options: CmatoseOptions) => Promise<void>,
): Promise<void> {
  const { server: target, bind, port, tos, ...rest } = flags;
  const address = target ?? bind;
  const options = { ...rest, address, port, ...(tos !== undefined && { tos }), onListening: listening(port) };
  await (target === undefined ? server(options) : client(options));
  console.log('data transfers complete');
}

function addEcho(name: string, port: number, about: string): Command {
  return program
    .command(name)
    .description(about)
    .option('-s, --server <address>', 'address of the server; without it, be the server')
    .option('-b, --bind <address>', 'address to bind to')
    .option('-c, --connections <n>', 'connections', parseWhole, 1)
    .option('-C, --count <n>', 'messages each way', parseWhole, 10)
    .option('-S, --size <bytes>', 'bytes of a message', parseWhole, 100)
    .option('-t, --tos <n>', 'type of service', parseWhole)
    .option('-p, --port <port>', 'port', parseWhole, port);
}

const program = new Command('cm-tools').description(
  "rdmacm-utils' programs: they work with the C programs at the other end",
);
for (const [name, end] of [
  ['rdma_client', rdmaClient],
  ['rdma_server', rdmaServer],
] as const) {
  program
    .command(name)
    .option('-s, --server <address>', 'address of the server')
    .option('-p, --port <port>', 'port', parseWhole, 7471)
    .action(async ({ server: address, port }: { server?: string; port: number }) => {
      console.log(`${name}: start`);
      await end({ address, port, onListening: listening(port) });
      console.log(`${name}: end 0`);
    });
}
addEcho('ucmatose', 7471, 'connections with messages both ways')
  .option('-m, --migrate', 'move to another event channel after the transfers')
  .action((flags: EchoFlags) => runEcho(flags, cmatoseClient, cmatoseServer));
addEcho('udaddy', 7174, 'datagrams between services that rdma_cm finds').action((flags: EchoFlags) =>
  runEcho(flags, udaddyClient, udaddyServer),
);
program
  .command('mckey')
  .description('datagrams to a multicast group')
  .requiredOption('-m, --group <address>', 'the group')
  .option('-s, --sender', 'send; otherwise receive')
  .option('-b, --bind <address>', 'address of the device')
  .option('-C, --count <n>', 'messages', parseWhole, 10)
  .option('-S, --size <bytes>', 'bytes of a message', parseWhole, 100)
  .option('-o, --send-only', 'join only to send')
  .action(
    async ({
      sender = false,
      bind,
      ...rest
    }: {
      group: string;
      sender?: boolean;
      bind?: string;
      count: number;
      size: number;
    }) => {
      await mckey({ ...rest, bind, sender, onJoined: () => console.log('joined') });
      console.log('data transfers complete');
    },
  );

try {
  await program.parseAsync();
} catch (error) {
  console.error(`error: ${(error as Error).message}`);
  // Connections of others may be open still: they end with the process.
  process.exit(1);
}
