/** What the two ends of a ping-pong tell each other over TCP before there is RDMA: the format of libibverbs' examples. */
import { once } from 'node:events';
import { connect, createServer, type Socket } from 'node:net';

/** Where a queue pair is reached. */
export interface Destination {
  /** Local identifier; InfiniBand. */
  readonly lid: number;
  readonly qpn: number;
  /** First packet sequence number. */
  readonly psn: number;
  /** 16 bytes, all zero on InfiniBand without global routes. */
  readonly gid: Uint8Array;
}

/** "lid:qpn:psn:gid" in hexadecimal with its final zero. */
const MESSAGE_BYTES = 4 + 1 + 6 + 1 + 6 + 1 + 32 + 1;
const DONE = Buffer.from('done\0');

export function encodeDestination({ lid, qpn, psn, gid }: Destination): Buffer {
  const hex = (value: number, digits: number) => value.toString(16).padStart(digits, '0');
  return Buffer.from(`${hex(lid, 4)}:${hex(qpn, 6)}:${hex(psn, 6)}:${Buffer.from(gid).toString('hex')}\0`);
}

export function decodeDestination(message: Buffer): Destination {
  const match = /^([\da-f]{4}):([\da-f]{6}):([\da-f]{6}):([\da-f]{32})\0$/i.exec(message.toString('latin1'));
  if (match === null) throw new Error(`not a destination: ${JSON.stringify(message.toString('latin1'))}`);
  const [lid, qpn, psn] = match.slice(1, 4).map((text) => Number.parseInt(text, 16)) as [
    number,
    number,
    number,
  ];
  return { lid, qpn, psn, gid: Buffer.from(match[4] as string, 'hex') };
}

/** What has come over a socket. */
class Inbox {
  #bytes = Buffer.alloc(0);
  #over = false;
  #wake: () => void = () => undefined;

  constructor(socket: Socket) {
    socket.on('data', (data: Buffer) => {
      this.#bytes = Buffer.concat([this.#bytes, data]);
      this.#wake();
    });
    socket.on('close', () => {
      this.#over = true;
      this.#wake();
    });
    socket.on('end', () => {
      this.#over = true;
      this.#wake();
    });
  }

  async take(bytes: number): Promise<Buffer> {
    while (this.#bytes.length < bytes) {
      if (this.#over) throw new Error('the peer went away during the exchange');
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
    const taken = this.#bytes.subarray(0, bytes);
    this.#bytes = this.#bytes.subarray(bytes);
    return taken;
  }

  async takeDestinations(count: number): Promise<Destination[]> {
    const bytes = await this.take(count * MESSAGE_BYTES);
    return Array.from({ length: count }, (_, i) =>
      decodeDestination(bytes.subarray(i * MESSAGE_BYTES, (i + 1) * MESSAGE_BYTES)),
    );
  }
}

const encodeAll = (list: readonly Destination[]) => Buffer.concat(list.map(encodeDestination));

/** The client's half: tells [own], learns the peer's. */
export async function exchangeAsClient(
  host: string,
  port: number,
  own: readonly Destination[],
): Promise<Destination[]> {
  const socket = connect(port, host);
  try {
    await once(socket, 'connect');
    const inbox = new Inbox(socket);
    socket.write(encodeAll(own));
    const peers = await inbox.takeDestinations(own.length);
    socket.end(DONE);
    return peers;
  } catch (error) {
    socket.destroy();
    throw error;
  }
}

/** The server's half. [ready] makes the queue pairs ready to receive before the client may send. */
export async function exchangeAsServer(
  port: number,
  own: readonly Destination[],
  ready: (peers: readonly Destination[]) => void,
  onListening: () => void,
): Promise<Destination[]> {
  const server = createServer();
  server.listen(port, onListening);
  const [socket] = (await once(server, 'connection')) as [Socket];
  server.close();
  try {
    const inbox = new Inbox(socket);
    const peers = await inbox.takeDestinations(own.length);
    ready(peers);
    socket.write(encodeAll(own));
    await inbox.take(DONE.length);
    return peers;
  } finally {
    socket.destroy();
  }
}
