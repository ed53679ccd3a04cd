/** udaddy(1): datagrams between services that rdma_cm finds. */
import { CmId } from '../../lib/index.ts';
import type { CmatoseOptions } from './cmatose.ts';
import { GRH_BYTES, MessageEnd, type Target } from './message-end.ts';

type UdaddyOptions = Omit<CmatoseOptions, 'migrate'>;

async function sendAll(end: MessageEnd, target: Target, count: number): Promise<void> {
  await Promise.all(Array.from({ length: count }, () => end.send(target)));
}

/** Sends datagrams and waits for as many. */
export async function udaddyClient(options: UdaddyOptions): Promise<void> {
  const { address = '127.0.0.1', port, connections, count, size, tos } = options;
  const ids: CmId[] = [];
  await Promise.all(
    Array.from({ length: connections }, async () => {
      const id = new CmId({ portSpace: 'UDP', ...(tos !== undefined && { tos }) });
      ids.push(id);
      await id.resolveAddr({ host: address, port }, { timeoutMs: 2000 });
      await id.resolveRoute({ timeoutMs: 2000 });
      const end = await MessageEnd.create(id, size, count);
      const { ud } = await id.connect();
      await sendAll(end, end.target(ud!), count);
      await Promise.all(end.received);
    }),
  );
  for (const id of ids) id.close();
}

/** Answers every client with as many datagrams as came. */
export async function udaddyServer(options: UdaddyOptions): Promise<void> {
  const { address = '0.0.0.0', port, connections, count, size, onListening } = options;
  using listener = new CmId({ portSpace: 'UDP' });
  listener.bind({ host: address, port });
  listener.listen();
  onListening?.();
  const ends: MessageEnd[] = [];
  while (ends.length < connections) {
    const id = await listener.nextRequest();
    const end = await MessageEnd.create(id, size, count);
    await id.accept();
    ends.push(end);
  }
  await Promise.all(
    ends.map(async (end) => {
      const [first] = await Promise.all(end.received);
      if (first === undefined) return;
      // The immediate data is the sender's queue pair; the way back is in the header and the completion.
      const ah = end.pd.createAhFromWc(first, end.buffer(0).subarray(0, GRH_BYTES), end.id.portNum!);
      const { qkey = 0 } = end.qp.query();
      await sendAll(end, { ah, remoteQpn: first.immData!, remoteQkey: qkey }, count);
    }),
  );
  for (const { id } of ends) id.close();
}
