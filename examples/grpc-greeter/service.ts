/** What server and client know of the service. */
import { fileURLToPath } from 'node:url';
import {
  type Client,
  type ClientDuplexStream,
  loadPackageDefinition,
  type ServiceClientConstructor,
  type ServiceDefinition,
  type ServiceError,
} from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';

export interface Name {
  readonly name: string;
}

export interface Greeting {
  readonly text: string;
}

export interface GreeterClient extends Client {
  greet(name: Name, callback: (error: ServiceError | null, greeting?: Greeting) => void): void;
  greetAll(): ClientDuplexStream<Name, Greeting>;
}

const file = fileURLToPath(new URL('../../../examples/grpc-greeter/greeter.proto', import.meta.url));
const { greeter } = loadPackageDefinition(loadSync(file)) as unknown as {
  greeter: { Greeter: ServiceClientConstructor };
};

export const service: ServiceDefinition = greeter.Greeter.service;

export const Greeter = greeter.Greeter as unknown as new (
  ...args: ConstructorParameters<typeof Client>
) => GreeterClient;
