/** Connections of a process with itself, for what is measured in one process. */
import {
  CmId,
  type CompletionQueue,
  type Device,
  type ProtectionDomain,
  type QueuePair,
} from '../lib/index.ts';

/** What both ends of the connections share. */
export interface Loopback {
  readonly device: Device;
  readonly pd: ProtectionDomain;
  /** The queue of the ends that accept. */
  readonly passiveCq: CompletionQueue;
  /**
   * Makes one connection.
   *
   * @param caps of the end that connects
   * @returns its queue pair
   */
  connect(caps: {
    cq: CompletionQueue;
    maxSendWr: number;
    maxSendSge?: number;
    maxInlineData?: number;
  }): Promise<QueuePair>;
  close(): void;
}

/** Listens on [host], an address of the device, for as many as [passiveCqe] connections with one receive each. */
export async function openLoopback(host: string, passiveCqe: number): Promise<Loopback> {
  const listener = new CmId();
  listener.bind({ host, port: 0 });
  listener.listen(128);
  const { port } = listener.localAddress!;
  const first = new CmId();
  await first.resolveAddr({ host, port });
  const device = first.device!;
  first.close();
  const pd = device.allocPd();
  const passiveCq = device.createCq({ cqe: passiveCqe });
  const ends: CmId[] = [];
  listener.on('connectRequest', (id) => {
    ends.push(id);
    id.createQp({ pd, sendCq: passiveCq, maxSendWr: 1, maxRecvWr: 1 });
    // A failed accept shows as the client's failed connect.
    id.accept().catch(() => {});
  });
  return {
    device,
    pd,
    passiveCq,
    async connect({ cq, ...caps }) {
      const id = new CmId();
      ends.push(id);
      await id.resolveAddr({ host, port });
      await id.resolveRoute();
      const qp = id.createQp({ pd, sendCq: cq, maxRecvWr: 1, ...caps });
      await id.connect();
      return qp;
    },
    close() {
      for (const id of ends) id.close();
      listener.close();
      passiveCq.close();
      pd.close();
    },
  };
}
