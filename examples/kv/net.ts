/** The same store over node:net, for comparison: the same messages with their length before them, values and all. */
import { once } from 'node:events';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { errorOf, KvError, Status, statusOf } from './errors.ts';
import {
  decodeRequest,
  decodeResponse,
  encodeRequest,
  encodeResponse,
  Op,
  type Request,
  type Response,
} from './protocol.ts';
import type { Service } from './service.ts';
import type { Stored } from './store.ts';

/** Calls [onFrame] for every frame that comes. */
function readFrames(socket: Socket, onFrame: (frame: Buffer) => void): void {
  let parts: Buffer[] = [];
  let have = 0;
  socket.on('data', (data: Buffer) => {
    parts.push(data);
    have += data.length;
    if (have < 4 || have < 4 + peekLength(parts)) return;
    let bytes = parts.length === 1 ? parts[0]! : Buffer.concat(parts);
    while (bytes.length >= 4 && bytes.length >= 4 + bytes.readUInt32LE(0)) {
      const end = 4 + bytes.readUInt32LE(0);
      onFrame(bytes.subarray(4, end));
      bytes = bytes.subarray(end);
    }
    parts = bytes.length > 0 ? [bytes] : [];
    have = bytes.length;
  });
}

function peekLength(parts: Buffer[]): number {
  if (parts[0]!.length < 4) parts.splice(0, parts.length, Buffer.concat(parts));
  return parts[0]!.readUInt32LE(0);
}

function writeFrame(socket: Socket, frame: Buffer): void {
  const head = Buffer.alloc(4);
  head.writeUInt32LE(frame.length, 0);
  socket.cork();
  socket.write(head);
  socket.write(frame);
  socket.uncork();
}

/** Serves a store over TCP. */
export class NetServer {
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();

  private constructor(service: Service) {
    this.#server = createServer({ noDelay: true }, (socket) => {
      this.#sockets.add(socket);
      socket.on('error', () => {}).on('close', () => this.#sockets.delete(socket));
      readFrames(socket, (frame) => void serve(service, socket, frame));
    });
  }

  static async listen(service: Service, host: string, port: number): Promise<NetServer> {
    const server = new NetServer(service);
    server.#server.listen(port, host);
    await once(server.#server, 'listening');
    return server;
  }

  async close(): Promise<void> {
    this.#server.close();
    for (const socket of this.#sockets) socket.destroy();
    await once(this.#server, 'close');
  }
}

async function serve(service: Service, socket: Socket, frame: Buffer): Promise<void> {
  try {
    const request = decodeRequest(frame);
    const response = await carryOut(service, request).catch((error: KvError) => ({
      status: statusOf(error),
      body: Buffer.from(error.message),
    }));
    if (!socket.destroyed) writeFrame(socket, encodeResponse({ tag: request.tag, ...response }));
  } catch {
    socket.destroy();
  }
}

async function carryOut(service: Service, { op, key, value }: Request): Promise<Partial<Response>> {
  if (op === Op.PUT) return { version: await service.put(key, value) };
  if (op === Op.DELETE) return { status: (await service.delete(key)) ? Status.OK : Status.NOT_FOUND };
  if (op !== Op.GET) throw new KvError('ERR_KV_INVALID', `node:net carries GET, PUT and DELETE, not ${op}`);
  const stored = service.get(key);
  return stored === undefined
    ? { status: Status.NOT_FOUND }
    : { body: stored.value, version: stored.version };
}

/** A client of {@link NetServer}; no reconnecting. */
export class NetClient {
  readonly #socket: Socket;
  readonly #pending = new Map<
    number,
    { resolve: (response: Response) => void; reject: (error: Error) => void }
  >();
  #tag = 0;

  private constructor(socket: Socket) {
    this.#socket = socket;
    readFrames(socket, (frame) => {
      const response = decodeResponse(frame);
      this.#pending.get(response.tag)?.resolve(response);
      this.#pending.delete(response.tag);
    });
    socket
      .on('error', () => {})
      .on('close', () => {
        const error = new KvError('ERR_KV_LOST', 'the connection ended');
        for (const { reject } of this.#pending.values()) reject(error);
        this.#pending.clear();
      });
  }

  static async connect(host: string, port: number): Promise<NetClient> {
    const socket = connect({ host, port, noDelay: true });
    await once(socket, 'connect');
    return new NetClient(socket);
  }

  async get(key: Buffer): Promise<Stored | undefined> {
    const { status, body, version } = await this.#request({ op: Op.GET, key });
    return status === Status.NOT_FOUND ? undefined : { value: body, version };
  }

  async put(key: Buffer, value: Buffer): Promise<number> {
    return (await this.#request({ op: Op.PUT, key, value })).version;
  }

  async close(): Promise<void> {
    this.#socket.destroy();
    if (!this.#socket.closed) await once(this.#socket, 'close');
  }

  async #request(request: Partial<Request> & Pick<Request, 'op'>): Promise<Response> {
    if (this.#socket.destroyed) throw new KvError('ERR_KV_LOST', 'the connection ended');
    this.#tag = (this.#tag + 1) >>> 0;
    const tag = this.#tag;
    writeFrame(this.#socket, encodeRequest({ ...request, tag }));
    const response = await new Promise<Response>((resolve, reject) =>
      this.#pending.set(tag, { resolve, reject }),
    );
    if (response.status > Status.SINK) throw errorOf(response.status, response.body.toString());
    return response;
  }
}
