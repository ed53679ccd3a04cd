/** The answering end of rping. */
import { CmId } from '../../lib/index.ts';
import { CONNECTION_PARAMETERS, Endpoint } from './endpoint.ts';
import { DEFAULT_PORT, decodeAdvertisement, encodeAdvertisement, MAX_SIZE, pingText } from './protocol.ts';

/** Settings of {@link serve}. */
export interface ServeOptions {
  /** Address to listen on; default all. */
  host?: string;
  /** Default 7174. */
  port?: number;
  /** Serve one client after another until the signal, instead of one client. */
  persistent?: boolean;
  /** Receives the text of every ping. */
  onPing?: (text: string) => void;
  /** Called when clients can connect. */
  onListening?: () => void;
  /** Receives errors of single connections of a persistent server. */
  onError?: (error: Error) => void;
  /** Ends a persistent server. */
  signal?: AbortSignal;
}

/** Serves one client, or with `persistent` every client until the signal. Rejects when the connection fails. */
export async function serve(options: ServeOptions): Promise<void> {
  const {
    host = '0.0.0.0',
    port = DEFAULT_PORT,
    persistent = false,
    onPing,
    onListening,
    onError,
    signal,
  } = options;
  const listener = new CmId();
  try {
    await new Promise<void>((resolve, reject) => {
      signal?.addEventListener('abort', () => resolve(), { once: true });
      let taken = false;
      listener.on('connectRequest', (id) => {
        if (taken) {
          id.reject();
          return;
        }
        taken = !persistent;
        const served = serveClient(id, onPing);
        if (persistent) served.catch((error) => onError?.(error));
        else served.then(resolve, reject);
      });
      listener.bind({ host, port });
      listener.listen();
      onListening?.();
    });
  } finally {
    listener.close();
  }
}

async function serveClient(id: CmId, onPing: ((text: string) => void) | undefined): Promise<void> {
  const endpoint = await Endpoint.create(id);
  const { rw } = endpoint;
  try {
    const data = await endpoint.alloc(MAX_SIZE);
    await id.accept(CONNECTION_PARAMETERS, { timeoutMs: 5000 });
    for (;;) {
      const source = decodeAdvertisement(await endpoint.receive());
      const ping = data.bytes.subarray(0, source.size);
      await rw.read([ping], source);
      onPing?.(pingText(ping));
      await endpoint.send(encodeAdvertisement(source));
      const sink = decodeAdvertisement(await endpoint.receive());
      // Like rping: the text and its NUL, and never more than the client's buffer holds.
      const text = ping.indexOf(0) + 1 || ping.length;
      await rw.write([ping.subarray(0, Math.min(text, sink.size))], sink);
      await endpoint.send(encodeAdvertisement(sink));
    }
  } catch (error) {
    if (!endpoint.disconnected) throw error;
  } finally {
    await endpoint.close();
  }
}
