import { execFileSync } from 'node:child_process';
import {
  type Address,
  CmId,
  type CmIdOptions,
  type ConnParam,
  type Device,
  openDevice,
  type ProtectionDomain,
  type QueuePair,
} from '../../../lib/index.ts';
import type { TestDevice } from './devices.ts';

/** The IPv6 address of a device's netdev. */
export function host6(name: string): string {
  return name === 'rxe0'
    ? (process.env.RDMA_RXE_ADDR6 ?? 'fd00:1::1')
    : (process.env.RDMA_SIW_ADDR6 ?? 'fd00:2::1');
}

/** What a test makes of rdma_cm on one device; closed as a whole. */
export class CmScope {
  readonly name: TestDevice['name'];
  readonly host: string;
  readonly device: Device;
  readonly pd: ProtectionDomain;
  readonly #open: { close(): void }[] = [];

  constructor({ name, host }: TestDevice) {
    this.name = name;
    this.host = host;
    this.device = openDevice(name);
    this.pd = this.device.allocPd();
  }

  /** Has [object] closed with the scope. */
  keep<T extends { close(): void }>(object: T): T {
    this.#open.push(object);
    return object;
  }

  id(options?: CmIdOptions): CmId {
    return this.keep(new CmId(options));
  }

  /** Listens on a port that the kernel chooses. */
  listener(options?: CmIdOptions, host = this.host): CmId & { readonly localAddress: Address } {
    const id = this.id(options);
    id.bind({ host, port: 0 });
    id.listen();
    return id as CmId & { readonly localAddress: Address };
  }

  queuePair(id: CmId): QueuePair {
    return id.createQp({ pd: this.pd, sendCq: this.device.createCq() });
  }

  /** An id that can connect to [address], with a queue pair. */
  async resolved(address: Address, options?: CmIdOptions): Promise<CmId & { readonly qp: QueuePair }> {
    const id = this.id(options);
    await id.resolveAddr(address);
    await id.resolveRoute();
    this.queuePair(id);
    return id as CmId & { readonly qp: QueuePair };
  }

  /** The next request of [listener], with a queue pair. */
  async requested(listener: CmId): Promise<CmId & { readonly qp: QueuePair }> {
    const id = this.keep(await listener.nextRequest());
    this.queuePair(id);
    return id as CmId & { readonly qp: QueuePair };
  }

  /** Both ends of a connection. */
  async connected(
    connect?: ConnParam,
    accept?: ConnParam,
    options?: CmIdOptions,
  ): Promise<{ client: CmId & { readonly qp: QueuePair }; server: CmId & { readonly qp: QueuePair } }> {
    const listener = this.listener(options);
    const client = await this.resolved(listener.localAddress, options);
    const connecting = client.connect(connect);
    const server = await this.requested(listener);
    await Promise.all([connecting, server.accept(accept)]);
    return { client, server };
  }

  close(): void {
    for (const object of this.#open.splice(0)) object.close();
    this.device.close();
  }
}

/** [name] of the next event that an id emits. */
export function nextEvent(id: CmId, name: string): Promise<import('../../../lib/index.ts').CmEvent> {
  return new Promise((resolve) => {
    id.on('event', (event) => {
      if (event.name === name) resolve(event);
    });
  });
}

/** How many objects of each kind the kernel has for a device: { pd, cq, qp, cm_id, mr, ctx … } (rdma-resource(8)). */
export function resources(name: string): Record<string, number> {
  const text = execFileSync('rdma', ['-j', 'resource', 'show', name], { encoding: 'utf8' });
  const [{ ifindex: _index, ifname: _name, ...counts }] = JSON.parse(text);
  return counts;
}
