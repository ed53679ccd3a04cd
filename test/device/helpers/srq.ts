import {
  Access,
  CmId,
  type CompletionQueue,
  type Device,
  type MemoryRegion,
  Opcode,
  openDevice,
  type ProtectionDomain,
  type QueuePair,
  type SharedReceiveQueue,
  type SrqOptions,
} from '../../../lib/index.ts';
import { devices } from './devices.ts';

/** What a server with a shared receive queue is made with. */
export interface SharedServerOptions {
  readonly connections?: number;
  readonly srq?: SrqOptions;
  /** Every queue pair of the server gets a completion queue of its own; by default they share one. */
  readonly ownCqs?: boolean;
  readonly cqe?: number;
}

/** Queue pairs of one process on one shared receive queue, each connected to a client. */
export interface SharedServer {
  readonly device: Device;
  readonly pd: ProtectionDomain;
  readonly srq: SharedReceiveQueue;
  readonly listener: CmId;
  readonly servers: (CmId & { readonly qp: QueuePair })[];
  readonly clients: (CmId & { readonly qp: QueuePair })[];
  readonly serverCqs: CompletionQueue[];
  /** Where receives go: the buffer of slot [i] is BUFFER bytes from i * BUFFER. */
  readonly memory: { readonly bytes: Buffer; readonly mr: MemoryRegion };
  /** The SGE of buffer [i]. */
  buffer(i: number): { addr: number; length: number; lkey: number };
  /** The text that arrived in buffer [i]. */
  text(i: number, length: number): string;
  /** Sends a text from client [i]. */
  say(i: number, text: string, flags?: number): Promise<unknown>;
  connect(): Promise<void>;
  close(): Promise<void>;
}

/** Bytes of one receive. */
export const BUFFER = 64;
const BUFFERS = 512;

export async function sharedServer(
  name: 'rxe0' | 'siw0',
  options: SharedServerOptions = {},
): Promise<SharedServer> {
  const host = devices.find((device) => device.name === name)!.host;
  const device = openDevice(name);
  const pd = device.allocPd();
  const cqOptions = options.cqe === undefined ? {} : { cqe: options.cqe };
  const srq = pd.createSrq(options.srq);
  const clientCq = device.createCq();
  const serverCqs: CompletionQueue[] = [];
  const bytes = Buffer.alloc(BUFFER * BUFFERS);
  const mr = await pd.regMr(bytes, Access.LOCAL_WRITE);
  const listener = new CmId();
  listener.bind({ host, port: 0 });
  listener.listen();
  const servers: SharedServer['servers'] = [];
  const clients: SharedServer['clients'] = [];

  async function connect(): Promise<void> {
    if (serverCqs.length === 0 || options.ownCqs === true) serverCqs.push(device.createCq(cqOptions));
    const cq = serverCqs.at(-1)!;
    const accepted = new Promise<CmId>((resolve, reject) => {
      listener.once('connectRequest', (id) => {
        id.createQp({ pd, sendCq: cq, srq, maxSendWr: 8 });
        id.accept().then(() => resolve(id), reject);
      });
    });
    const client = new CmId();
    await client.resolveAddr({ host, port: listener.localAddress!.port });
    await client.resolveRoute();
    client.createQp({ pd, sendCq: clientCq, maxSendWr: 64, maxRecvWr: 8 });
    const [, server] = await Promise.all([client.connect(), accepted]);
    clients.push(client as SharedServer['clients'][number]);
    servers.push(server as SharedServer['servers'][number]);
  }

  for (let i = 0; i < (options.connections ?? 2); i += 1) await connect();
  return {
    device,
    pd,
    srq,
    listener,
    servers,
    clients,
    serverCqs,
    memory: { bytes, mr },
    buffer: (i) => ({ addr: mr.addr + i * BUFFER, length: BUFFER, lkey: mr.lkey }),
    text: (i, length) => bytes.toString('latin1', i * BUFFER, i * BUFFER + length),
    say: (i, text, flags) =>
      clients[i]!.qp.send({
        opcode: Opcode.SEND,
        sges: [],
        inline: Buffer.from(text),
        ...(flags === undefined ? {} : { flags }),
      }),
    connect,
    async close() {
      for (const id of [...clients, ...servers, listener]) id.close();
      srq.close();
      await mr.close();
      device.close();
    },
  };
}
