/** ucmatose(1): connections, each with messages both ways. */
import { once } from 'node:events';
import { CmId, EventChannel } from '../../lib/index.ts';
import { MessageEnd } from './message-end.ts';
import type { ToolOptions } from './rdma-client-server.ts';

/** Settings of ucmatose. */
export interface CmatoseOptions extends ToolOptions {
  connections: number;
  /** Messages each way, on each connection. */
  count: number;
  /** Bytes of a message. */
  size: number;
  /** Type of service of the connections. */
  tos?: number;
  /** Move the ids to another event channel after the transfers. */
  migrate?: boolean;
}

async function sendAll(end: MessageEnd, count: number): Promise<void> {
  await Promise.all(Array.from({ length: count }, () => end.send()));
}

function moveAll(ids: Iterable<CmId>): EventChannel {
  const channel = new EventChannel();
  for (const id of ids) id.migrate(channel);
  return channel;
}

/** Takes the server's messages and answers with as many. */
export async function cmatoseClient(options: CmatoseOptions): Promise<void> {
  const { address = '127.0.0.1', port, connections, count, size, tos, migrate } = options;
  const ends = await Promise.all(
    Array.from({ length: connections }, async () => {
      const id = new CmId(tos === undefined ? {} : { tos });
      await id.resolveAddr({ host: address, port }, { timeoutMs: 2000 });
      await id.resolveRoute({ timeoutMs: 2000 });
      const end = await MessageEnd.create(id, size, count);
      await id.connect({ responderResources: 1, initiatorDepth: 1, retryCount: 5 });
      return end;
    }),
  );
  const gone = ends.map(({ id }) => once(id, 'disconnected'));
  await Promise.all(ends.flatMap((end) => end.received));
  // The server ends the connection when it has the answers; what it has not acknowledged by then is flushed.
  const answered = ends.map((end) => sendAll(end, count).catch(() => undefined));
  if (migrate === true) moveAll(ends.map(({ id }) => id));
  await Promise.all([...gone, ...answered]);
  for (const { id } of ends) id.close();
}

/** Sends messages on every connection and waits for the answers. */
export async function cmatoseServer(options: CmatoseOptions): Promise<void> {
  const { address = '0.0.0.0', port, connections, count, size, migrate, onListening } = options;
  using listener = new CmId();
  listener.bind({ host: address, port });
  listener.listen();
  onListening?.();
  const accepted: Promise<MessageEnd>[] = [];
  while (accepted.length < connections) {
    const id = await listener.nextRequest();
    accepted.push(
      MessageEnd.create(id, size, count).then(async (end) => {
        await id.accept();
        return end;
      }),
    );
  }
  const ends = await Promise.all(accepted);
  await Promise.all(ends.map((end) => sendAll(end, count)));
  await Promise.all(ends.flatMap((end) => end.received));
  if (migrate === true) moveAll([listener, ...ends.map(({ id }) => id)]);
  await Promise.all(ends.map(({ id }) => id.disconnect()));
  for (const { id } of ends) id.close();
}
