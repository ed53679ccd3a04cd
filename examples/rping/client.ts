/** The pinging end of rping. */
import { Access, CmId } from '../../lib/index.ts';
import { CONNECTION_PARAMETERS, Endpoint } from './endpoint.ts';
import { DEFAULT_PORT, encodeAdvertisement, fillPing, MAX_SIZE, MIN_SIZE, pingText } from './protocol.ts';

/** Settings of {@link ping}. */
export interface PingOptions {
  host: string;
  /** Default 7174. */
  port?: number;
  /** Number of pings; 0 goes on until the server disconnects. */
  count: number;
  /** Bytes of a ping, 23 to 65535. Default 64. */
  size?: number;
  /** Compare what came back with what was sent. */
  validate?: boolean;
  /** Receives the text of every pong. */
  onPing?: (text: string) => void;
}

/** Pings a server. Resolves with the number of pings. Rejects when one fails, or comes back changed. */
export async function ping(options: PingOptions): Promise<number> {
  const { host, port = DEFAULT_PORT, count, size = 64, validate = false, onPing } = options;
  if (!Number.isInteger(size) || size < MIN_SIZE || size > MAX_SIZE) {
    throw new RangeError(`size is ${size}; give a whole number from ${MIN_SIZE} to ${MAX_SIZE}`);
  }
  const id = new CmId();
  let endpoint: Endpoint | undefined;
  try {
    await id.resolveAddr({ host, port }, { timeoutMs: 2000 });
    await id.resolveRoute({ timeoutMs: 2000 });
    endpoint = await Endpoint.create(id);
    const source = await endpoint.expose(size, Access.REMOTE_READ);
    const sink = await endpoint.expose(size, Access.REMOTE_WRITE);
    await id.connect(CONNECTION_PARAMETERS, { timeoutMs: 5000 });
    const sent = Buffer.from(source.buffer, 0, size);
    const returned = Buffer.from(sink.buffer, 0, size);
    for (let i = 0; count === 0 || i < count; i++) {
      fillPing(sent, i);
      await endpoint.send(encodeAdvertisement({ addr: source.addr, rkey: source.mr.rkey, size }));
      await endpoint.receive();
      await endpoint.send(encodeAdvertisement({ addr: sink.addr, rkey: sink.mr.rkey, size }));
      await endpoint.receive();
      if (validate && !sent.equals(returned))
        throw new Error(`ping ${i} came back changed: ${pingText(returned)}`);
      onPing?.(pingText(returned));
    }
    return count;
  } finally {
    if (endpoint) await endpoint.close();
    else id.close();
  }
}
