#!/usr/bin/env node
/** A gRPC service over RDMA: @grpc/grpc-js on both sides, unary and bidirectional calls. */
import { once } from 'node:events';
import {
  Server,
  ServerCredentials,
  type ServerDuplexStream,
  type ServerUnaryCall,
  type sendUnaryData,
} from '@grpc/grpc-js';
import { Command } from 'commander';
import { attach, rdmaCredentials } from '../../lib/net/adapters/grpc.ts';
import { port } from '../common/arguments.ts';
import { Greeter, type Greeting, type Name, service } from './service.ts';

const greetingFor = ({ name }: Name): Greeting => ({ text: `Hello ${name}, over RDMA.` });

async function serve(options: { host?: string; port: number }): Promise<void> {
  const server = new Server();
  server.addService(service, {
    greet: ({ request }: ServerUnaryCall<Name, Greeting>, callback: sendUnaryData<Greeting>) =>
      callback(null, greetingFor(request)),
    greetAll: (call: ServerDuplexStream<Name, Greeting>) => {
      call.on('data', (name: Name) => call.write(greetingFor(name)));
      call.on('end', () => call.end());
    },
  });
  const listener = attach(server, ServerCredentials.createInsecure()).listen(options);
  await once(listener, 'listening');
  console.log(`listening on port ${listener.address()?.port}`);
  const stop = () => {
    listener.close();
    server.forceShutdown();
  };
  process.once('SIGINT', stop).once('SIGTERM', stop);
  await once(listener, 'close');
}

async function greet(names: string[], { host, port: to }: { host: string; port: number }): Promise<void> {
  const client = new Greeter(`rdma:${host}:${to}`, rdmaCredentials());
  try {
    if (names.length === 1) {
      const [name] = names as [string];
      const { text } = await new Promise<Greeting>((resolve, reject) =>
        client.greet({ name }, (error, greeting) => (error ? reject(error) : resolve(greeting!))),
      );
      console.log(text);
    } else {
      const call = client.greetAll();
      for (const name of names) call.write({ name });
      call.end();
      for await (const { text } of call as AsyncIterable<Greeting>) console.log(text);
    }
  } finally {
    client.close();
  }
}

const program = new Command('grpc-greeter').description('gRPC over RDMA.');
program
  .command('serve')
  .option('--host <address>', 'address to listen on; all by default')
  .option('--port <port>', 'port; 0 for any', port, 50051)
  .action(serve);
program
  .command('greet <names...>')
  .description('one name: a unary call; more: a bidirectional one')
  .requiredOption('--host <address>', 'address of the server')
  .option('--port <port>', 'its port', port, 50051)
  .action(greet);
try {
  await program.parseAsync();
} catch (error) {
  console.error(`error: ${(error as Error).message}`);
  process.exitCode = 1;
}
