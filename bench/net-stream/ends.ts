/**
 * The traffic of rstream and riostream between two sockets of node-rdma/net: the client sends [count] transfers of [size]
 * bytes, the server sends as many back.
 */
import { once } from 'node:events';
import { connect, createServer, type RdmaSocket, type RdmaSocketOptions } from '../../lib/net/index.ts';

/** How bytes go, and the program in C that does the same. */
export const WAYS = {
  /** write() and 'data'. */
  stream: 'rstream',
  /** write() and `onread`, into one buffer, as C programs receive. */
  onread: 'rstream',
  /** Straight into mapped memory, by riowrite(3) and {@link RdmaSocket.direct}. */
  direct: 'riostream',
} as const;

export type Way = keyof typeof WAYS;

/** What rstream sets: SO_SNDBUF and SO_RCVBUF of 512 KiB, which rsockets double. */
const BUFFER_BYTES = 1024 * 1024;
const LENT_BYTES = 256 * 1024;
const SYNC_BYTES = 16;
/** The first is not timed: V8 compiles, and pages come from the kernel, which a C program has at once or never needs. */
const EXCHANGES = 2;

/** Bytes that have come on a socket. */
class Arrivals {
  #bytes = 0;
  #wanted = 0;
  #resolve: (() => void) | undefined;

  came(bytes: number): void {
    this.#bytes += bytes;
    if (this.#bytes >= this.#wanted) this.#resolve?.();
  }

  /** Resolves when [bytes] have come since the call before. */
  async next(bytes: number): Promise<void> {
    this.#wanted += bytes;
    if (this.#bytes >= this.#wanted) return;
    await new Promise<void>((resolve) => {
      this.#resolve = resolve;
    });
  }
}

function optionsOf(way: Way, arrivals: Arrivals): RdmaSocketOptions {
  const sizes = { sendBufferSize: BUFFER_BYTES, receiveBufferSize: BUFFER_BYTES };
  if (way === 'stream') return sizes;
  if (way === 'direct') return { ...sizes, iomapSize: 1 };
  const buffer = Buffer.alloc(LENT_BYTES);
  const callback = (bytes: number): true => {
    arrivals.came(bytes);
    return true;
  };
  return { ...sizes, onread: { buffer, callback } };
}

/** One end; both are ready when their first {@link End.sync} is over. */
class End {
  readonly #socket: RdmaSocket;
  readonly #arrivals: Arrivals;
  readonly #way: Way;
  readonly #transfer: Buffer;
  readonly #count: number;
  readonly #mapped: Promise<unknown>;

  constructor(socket: RdmaSocket, arrivals: Arrivals, way: Way, size: number, count: number) {
    this.#socket = socket;
    this.#arrivals = arrivals;
    this.#way = way;
    this.#transfer = Buffer.alloc(size, 7);
    this.#count = count;
    this.#mapped = way === 'direct' ? once(socket.direct, 'mapped') : Promise.resolve();
    if (way !== 'onread') socket.on('data', ({ length }: Buffer) => arrivals.came(length));
  }

  /** Maps what is mapped, and tells the peer so. */
  async open(): Promise<void> {
    if (this.#way === 'direct') await this.#socket.direct.map(Buffer.alloc(this.#transfer.length));
    this.#socket.write(Buffer.alloc(SYNC_BYTES));
  }

  /** The peer is open too. */
  async opened(): Promise<void> {
    await this.#arrivals.next(SYNC_BYTES);
    await this.#mapped;
  }

  async send(): Promise<void> {
    if (this.#way === 'direct') return await this.#sendDirect();
    for (let i = 0; i < this.#count; i++) {
      if (!this.#socket.write(this.#transfer)) await once(this.#socket, 'drain');
    }
  }

  async receive(): Promise<void> {
    await this.#arrivals.next(this.#way === 'direct' ? SYNC_BYTES : this.#transfer.length * this.#count);
  }

  /** As much in flight as the send buffer holds; then bytes that say so, because direct writes come silently. */
  async #sendDirect(): Promise<void> {
    const ahead = Math.max(2, Math.ceil(BUFFER_BYTES / this.#transfer.length));
    const writes: Promise<void>[] = [];
    for (let i = 0; i < this.#count; i++) {
      const write = this.#socket.direct.write(this.#transfer, 0);
      writes[i % ahead] = write;
      await writes[(i + 1) % ahead];
    }
    await Promise.all(writes);
    this.#socket.write(Buffer.alloc(SYNC_BYTES));
  }
}

/** Serves one client; prints a line when it listens. */
export async function serve(
  way: Way,
  host: string,
  port: number,
  size: number,
  count: number,
): Promise<void> {
  const arrivals = new Arrivals();
  const server = createServer(optionsOf(way, arrivals), async (socket) => {
    const end = new End(socket, arrivals, way, size, count);
    await end.opened();
    await end.open();
    for (let i = 0; i < EXCHANGES; i++) {
      await end.receive();
      await end.send();
    }
    socket.end();
    server.close();
  });
  server.listen(port, host, () => console.log('listening'));
  await once(server, 'close');
}

/** Prints bytes per second, both ways together. */
export async function call(way: Way, host: string, port: number, size: number, count: number): Promise<void> {
  const arrivals = new Arrivals();
  const socket = connect({ host, port, ...optionsOf(way, arrivals) });
  await once(socket, 'connect');
  const end = new End(socket, arrivals, way, size, count);
  await end.open();
  await end.opened();
  let seconds = 0;
  for (let i = 0; i < EXCHANGES; i++) {
    const start = process.hrtime.bigint();
    const received = end.receive();
    await end.send();
    await received;
    seconds = Number(process.hrtime.bigint() - start) / 1e9;
  }
  console.log(`rate ${(2 * size * count) / seconds}`);
  socket.end();
}
