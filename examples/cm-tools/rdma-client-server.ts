/** rdma_client(1) and rdma_server(1): one message of 16 bytes there and one back. */
import { CmId, getaddrinfo } from '../../lib/index.ts';
import { MessageEnd } from './message-end.ts';

const BYTES = 16;

/** What all tools of this directory are told. */
export interface ToolOptions {
  /** The address of the server, or the one to bind to. */
  address: string | undefined;
  port: number;
  onListening?: () => void;
}

/** Sends a message and waits for the answer. */
export async function rdmaClient({ address = '127.0.0.1', port }: ToolOptions): Promise<Buffer> {
  const [info] = await getaddrinfo(address, port, { portSpace: 'TCP' });
  using id = new CmId();
  await id.resolveAddr(info!.target!);
  await id.resolveRoute();
  const end = await MessageEnd.create(id, BYTES, 1);
  await id.connect();
  end.message.write('a message');
  await end.send();
  await end.received[0];
  const answer = Buffer.from(end.buffer(0));
  await id.disconnect();
  return answer;
}

/** Serves one client. */
export async function rdmaServer({ address, port, onListening }: ToolOptions): Promise<Buffer> {
  const [info] = await getaddrinfo(address ?? '0.0.0.0', port, { portSpace: 'TCP', passive: true });
  using listener = new CmId();
  listener.bind(info!.source!);
  listener.listen();
  onListening?.();
  using id = await listener.nextRequest();
  const end = await MessageEnd.create(id, BYTES, 1);
  await id.accept();
  await end.received[0];
  const request = Buffer.from(end.buffer(0));
  end.message.write('an answer');
  await end.send();
  await id.disconnect();
  return request;
}
