/** Messages to and fro between two ends, as ibv_rc_pingpong(1), ibv_uc_pingpong, ibv_ud_pingpong and ibv_srq_pingpong do. */
import { WcStatus, wcStatusName } from '../../lib/index.ts';
import { Endpoint, type EndpointOptions } from './endpoint.ts';
import { type Destination, exchangeAsClient, exchangeAsServer } from './exchange.ts';

/** Settings of {@link pingpong}. */
export interface PingpongOptions extends EndpointOptions {
  /** The server's address; undefined to be the server. */
  host: string | undefined;
  /** TCP port of the exchange. */
  port: number;
  /** Messages each way. */
  iterations: number;
  /** Compare what comes back with what was sent. */
  validate: boolean;
  onListening?: () => void;
}

/** How a ping-pong went. */
export interface PingpongResult {
  /** Bytes of all messages, both ways. */
  bytes: number;
  iterations: number;
  seconds: number;
}

/** The exchange of srq_pingpong always has this many queue pairs; those that are not there are zeros. */
const SRQ_SLOTS = 256;
const NOBODY: Destination = { lid: 0, qpn: 0, psn: 0, gid: new Uint8Array(16) };

/** Plays. Rejects when a work request fails, and when something comes back changed. */
export async function pingpong(options: PingpongOptions): Promise<PingpongResult> {
  const { type, host, port } = options;
  const endpoint = await Endpoint.create(options);
  try {
    const game = new Game(endpoint, options);
    const { own } = endpoint;
    const told = type === 'srq' ? [...own, ...Array<Destination>(SRQ_SLOTS - own.length).fill(NOBODY)] : own;
    if (host === undefined) {
      await exchangeAsServer(
        port,
        told,
        (peers) => endpoint.connect(peers),
        () => options.onListening?.(),
      );
    } else {
      endpoint.connect(await exchangeAsClient(host, port, told));
    }
    return await game.play();
  } finally {
    endpoint.close();
  }
}

const SENDING = 1;
const AWAITING = 2;

/** The turns of all queue pairs: each sends again when its message has gone and the answer has come. */
class Game {
  readonly #endpoint: Endpoint;
  readonly #options: PingpongOptions;
  readonly #pending: number[];
  readonly #over: Promise<void>;
  #finish: () => void = () => undefined;
  #fail: (error: Error) => void = () => undefined;
  #sent = 0;
  #received = 0;
  #ended = false;

  constructor(endpoint: Endpoint, options: PingpongOptions) {
    this.#endpoint = endpoint;
    this.#options = options;
    this.#pending = endpoint.queuePairs.map(() => AWAITING);
    this.#over = new Promise((resolve, reject) => {
      this.#finish = resolve;
      this.#fail = reject;
    });
    this.#over.catch(() => undefined);
    const { rxDepth, queuePairs, type } = options;
    for (let slot = 0; slot < rxDepth; slot++) this.#receive(type === 'srq' ? 0 : slot % queuePairs, slot);
  }

  async play(): Promise<PingpongResult> {
    const { host, size, iterations } = this.#options;
    const start = process.hrtime.bigint();
    if (host !== undefined) for (const i of this.#pending.keys()) this.#send(i);
    await this.#over;
    const seconds = Number(process.hrtime.bigint() - start) / 1e9;
    return { bytes: 2 * size * iterations, iterations, seconds };
  }

  #receive(i: number, slot: number): void {
    this.#endpoint.postReceive(i, slot, (status, byteLen, qpNum) => {
      if (!this.#check('receive', status)) return;
      const at = this.#endpoint.queuePairs.findIndex((qp) => qp.qpNum === qpNum);
      const message = this.#endpoint.received(slot, byteLen);
      if (this.#options.host === undefined) {
        // The server echoes.
        message.copy(this.#endpoint.message(at));
      } else if (this.#options.validate && !message.equals(this.#endpoint.message(at))) {
        this.#end(new Error(`message ${this.#received} came back changed`));
        return;
      }
      this.#received++;
      this.#receive(i, slot);
      this.#turn(at, AWAITING);
    });
  }

  #send(i: number): void {
    this.#pending[i] = SENDING | AWAITING;
    // The client's messages differ; the server's are the client's.
    if (this.#options.host !== undefined) this.#endpoint.message(i).fill(1 + (this.#sent % 251));
    this.#endpoint.postSend(i, (status) => {
      if (!this.#check('send', status)) return;
      this.#sent++;
      this.#turn(i, SENDING);
    });
  }

  #turn(i: number, done: number): void {
    const { iterations } = this.#options;
    this.#pending[i]! &= ~done;
    if (this.#sent >= iterations && this.#received >= iterations) this.#end();
    else if (this.#pending[i] === 0 && this.#sent < iterations) this.#send(i);
  }

  #check(what: string, status: number): boolean {
    if (this.#ended) return false;
    if (status === WcStatus.SUCCESS) return true;
    this.#end(new Error(`${what} failed: ${wcStatusName(status)}`));
    return false;
  }

  #end(error?: Error): void {
    this.#ended = true;
    if (error) this.#fail(error);
    else this.#finish();
  }
}
