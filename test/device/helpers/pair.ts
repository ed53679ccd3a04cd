import {
  Access,
  CmId,
  type CompletionQueue,
  type ConnParam,
  type CqOptions,
  type Device,
  type MemoryRegion,
  openDevice,
  type ProtectionDomain,
  type QpInit,
  type QueuePair,
} from '../../../lib/index.ts';
import { devices } from './devices.ts';

/** What a pair is made with. */
export interface PairOptions extends Omit<QpInit, 'pd' | 'sendCq' | 'recvCq'> {
  readonly cqe?: number;
  /** What both completion queues are made with, on this device. */
  readonly cq?: (device: Device) => CqOptions;
  readonly connect?: ConnParam;
  readonly accept?: ConnParam;
}

/** Two connected queue pairs of one process, each with a completion queue of its own. */
export interface Pair {
  readonly device: Device;
  readonly pd: ProtectionDomain;
  readonly listener: CmId;
  readonly client: CmId & { readonly qp: QueuePair };
  readonly server: CmId & { readonly qp: QueuePair };
  readonly clientCq: CompletionQueue;
  readonly serverCq: CompletionQueue;
  /** Registers a fresh buffer for every use. */
  memory(bytes: number, access?: number): Promise<{ bytes: Buffer; mr: MemoryRegion }>;
  close(): Promise<void>;
  [Symbol.asyncDispose](): Promise<void>;
}

const ALL = Access.LOCAL_WRITE | Access.REMOTE_READ | Access.REMOTE_WRITE;

/** Connects two queue pairs over [name], in this process. */
export async function connectedPair(name: 'rxe0' | 'siw0', options: PairOptions = {}): Promise<Pair> {
  const { cqe, cq, connect, accept, ...caps } = options;
  const host = devices.find((device) => device.name === name)!.host;
  const device = openDevice(name);
  const pd = device.allocPd();
  const cqOptions = { ...(cqe === undefined ? {} : { cqe }), ...cq?.(device) };
  const clientCq = device.createCq(cqOptions);
  const serverCq = device.createCq(cqOptions);
  const listener = new CmId();
  listener.bind({ host, port: 0 });
  listener.listen();
  const accepted = new Promise<CmId>((resolve, reject) => {
    listener.once('connectRequest', (id) => {
      id.createQp({ pd, sendCq: serverCq, ...caps });
      id.accept(accept).then(() => resolve(id), reject);
    });
  });
  const client = new CmId();
  await client.resolveAddr({ host, port: listener.localAddress!.port });
  await client.resolveRoute();
  client.createQp({ pd, sendCq: clientCq, ...caps });
  const [, server] = await Promise.all([client.connect(connect), accepted]);
  const regions: MemoryRegion[] = [];
  const close = async () => {
    client.close();
    server.close();
    listener.close();
    await Promise.all(regions.map((mr) => mr.close()));
    device.close();
  };
  return {
    device,
    pd,
    listener,
    client: client as Pair['client'],
    server: server as Pair['server'],
    clientCq,
    serverCq,
    async memory(bytes, access = ALL) {
      const buffer = Buffer.alloc(bytes);
      const mr = await pd.regMr(buffer, access);
      regions.push(mr);
      return { bytes: buffer, mr };
    },
    close,
    [Symbol.asyncDispose]: close,
  };
}
