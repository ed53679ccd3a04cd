/**
 * Our side of a comparison: what the programs of perftest do, over the library's batches.
 *
 *   node-perf server HOST CELL MODE        prints its port, then serves one client
 *   node-perf client HOST CELL MODE PORT   prints an Outcome as JSON
 *
 * CELL is a {@link Cell} as JSON, MODE a {@link Mode}.
 */
import { once } from 'node:events';
import { SendFlags } from '../../lib/index.ts';
import { connect, type Endpoint, type LocalEnd, listen } from './endpoint.ts';
import {
  bandwidthOutcome,
  type Cell,
  isLatency,
  latencyOutcome,
  type Mode,
  type Outcome,
} from './options.ts';

/** Round trips that are not counted: until then V8 compiles. */
const WARM_UP = 5000;
/** Microseconds that a poll looks for the next completion. */
const WAIT = 1000;
/** Microseconds for which the event loop looks for the next completion in the mode "busy". */
const BUSY_POLL = 200;
/** Round trips between two looks at the clock, which may cost as much as one of them. */
const ROUNDS = 10;
/** How often the memory is looked at before the completion queue is. */
const LOOKS_PER_POLL = 4096;

function check(status: number): void {
  if (status !== 0) throw new Error(`a work request ended with the status ${status}`);
}

/** Posts lists of the cell's work request, [depth] in flight, until all are done; seconds. */
async function stream(end: Endpoint, cell: Cell, mode: Mode): Promise<number> {
  const { qp, cq, slab, remote } = end;
  const { size, iterations, depth, list, moderation, test } = cell;
  const batch = qp.sendBatch;
  const { addr } = slab;
  const { lkey } = slab.mr;
  let added = 0;
  let done = 0;
  let next: () => void = () => {};
  const fill = (onRetired: (status: number) => void): void => {
    while (added < iterations && added - done + list <= depth) {
      for (const end = Math.min(added + list, iterations); added < end; ) {
        added += 1;
        const last = added % moderation === 0 || added === iterations;
        const flags = last ? SendFlags.SIGNALED : 0;
        if (test === 'write_bw') batch.write(addr, size, lkey, remote.addr, remote.rkey, flags);
        else if (test === 'read_bw') batch.read(addr, size, lkey, remote.addr, remote.rkey, flags);
        else batch.send(addr, size, lkey, flags);
      }
      batch.post(onRetired);
    }
  };
  const start = performance.now();
  const onRetired = (status: number): void => {
    check(status);
    done += 1;
    if (mode !== 'poll') next();
  };
  const finished = new Promise<void>((resolve) => {
    next = () => (done === iterations ? resolve() : fill(onRetired));
  });
  fill(onRetired);
  if (mode !== 'poll') await finished;
  for (; done < iterations; fill(onRetired)) cq.poll(WAIT);
  return (performance.now() - start) / 1000;
}

/** Posts [count] receives of the cell's size, all to the same place. */
function receive(end: LocalEnd, cell: Cell, count: number, onRetired: (status: number) => void): void {
  const batch = end.qp.recvBatch;
  const { addr, mr } = end.slab;
  for (let i = 0; i < count; i += 1) batch.recv(addr + cell.size, cell.size, mr.lkey);
  batch.post(onRetired);
}

/** The receiving end of send_bw: whatever arrives makes room for the next. */
async function sink(end: LocalEnd, cell: Cell, mode: Mode, posted: Promise<unknown>): Promise<void> {
  let arrived = 0;
  let again = 0;
  let finish: () => void = () => {};
  const finished = new Promise<void>((resolve) => {
    finish = resolve;
  });
  const onRetired = (status: number): void => {
    // The receives that are left over are flushed when the connection ends.
    if (arrived === cell.iterations) return;
    check(status);
    arrived += 1;
    again += 1;
    if (arrived === cell.iterations) finish();
    if (again < cell.list) return;
    const count = Math.min(again, end.qp.recvFree);
    again -= count;
    receive(end, cell, count, onRetired);
  };
  receive(end, cell, end.qp.recvFree, onRetired);
  await posted;
  if (mode !== 'poll') return finished;
  while (arrived < cell.iterations) end.cq.poll(WAIT);
}

/** Ping-pong of SENDs; the times of the round trips, in microseconds, are averages of {@link ROUNDS}. */
class PingPong {
  readonly times: number[] = [];
  readonly #end: LocalEnd;
  readonly #cell: Cell;
  readonly #first: boolean;
  readonly #total: number;
  #sent = 0;
  #received = 0;
  #looked = 0;
  #finish: () => void = () => {};

  constructor(end: LocalEnd, cell: Cell, first: boolean) {
    this.#end = end;
    this.#cell = cell;
    this.#first = first;
    this.#total = cell.iterations + WARM_UP;
    receive(end, cell, cell.depth, this.#onReceived);
  }

  get over(): boolean {
    return this.#received === this.#total && this.#sent === this.#total;
  }

  async run(mode: Mode): Promise<void> {
    const finished = new Promise<void>((resolve) => {
      this.#finish = resolve;
    });
    if (this.#first) this.#send();
    if (mode !== 'poll') return finished;
    while (!this.over) this.#end.cq.poll(WAIT);
  }

  #send(): void {
    const batch = this.#end.qp.sendBatch;
    const { addr, mr } = this.#end.slab;
    this.#sent += 1;
    batch.send(addr, this.#cell.size, mr.lkey, SendFlags.SIGNALED);
    batch.post(check);
  }

  #look(): void {
    const now = performance.now();
    if (this.#received > WARM_UP) this.times.push(((now - this.#looked) * 1000) / ROUNDS);
    this.#looked = now;
  }

  readonly #onReceived = (status: number): void => {
    // The receives that are left over are flushed when the connection ends.
    if (this.over) return;
    check(status);
    this.#received += 1;
    receive(this.#end, this.#cell, 1, this.#onReceived);
    if (this.#first && this.#received >= WARM_UP && this.#received % ROUNDS === 0) this.#look();
    if (this.#sent < this.#total) this.#send();
    if (this.over) this.#finish();
  };
}

/** Ping-pong of WRITEs, of which the last byte is awaited in memory; the times as those of {@link PingPong}. */
function writePingPong(end: Endpoint, cell: Cell, first: boolean): number[] {
  const { qp, cq, slab, remote } = end;
  const { size } = cell;
  const batch = qp.sendBatch;
  const total = cell.iterations + WARM_UP;
  const times: number[] = [];
  const arrives = 2 * size - 1;
  const bytes = new Uint8Array(slab.buffer);
  const write = (round: number): void => {
    bytes[size - 1] = round & 0xff;
    batch.write(slab.addr, size, slab.mr.lkey, remote.addr + size, remote.rkey, SendFlags.SIGNALED);
    batch.post(check);
  };
  let looked = 0;
  for (let round = 1; round <= total; round += 1) {
    if (first) write(round);
    for (let looks = 1; bytes[arrives] !== (round & 0xff); looks += 1) {
      // Gives way now and then to the threads of a soft device. The send completes meanwhile.
      if (looks % LOOKS_PER_POLL === 0) cq.poll(1);
    }
    if (!first) write(round);
    else if (round >= WARM_UP && round % ROUNDS === 0) {
      const now = performance.now();
      if (round > WARM_UP) times.push(((now - looked) * 1000) / ROUNDS);
      looked = now;
    }
    while (batch.free === 0) cq.poll(WAIT);
  }
  while (qp.sendFree < qp.caps.maxSendWr) cq.poll(WAIT);
  return times;
}

function outcome(cell: Cell, seconds: number, times: readonly number[]): Outcome {
  if (!isLatency(cell.test)) return bandwidthOutcome(cell.size, cell.iterations, seconds);
  const typical = [...times].sort((a, b) => a - b)[times.length >> 1] ?? Number.NaN;
  return latencyOutcome(typical / 2);
}

async function serve(host: string, cell: Cell, mode: Mode): Promise<void> {
  let work = Promise.resolve();
  let accepted: () => void = () => {};
  const ready = new Promise<void>((resolve) => {
    accepted = resolve;
  });
  const before = (local: LocalEnd): void => {
    if (mode === 'busy') local.cq.busyPoll = BUSY_POLL;
    if (cell.test === 'send_bw') work = sink(local, cell, mode, ready);
    if (cell.test === 'send_lat' || cell.test === 'event_lat') {
      const game = new PingPong(local, cell, false);
      work = ready.then(() => game.run(mode));
    }
  };
  const end = await listen(host, cell, (port) => console.log(port), before);
  const gone = once(end.id, 'disconnected');
  accepted();
  await work;
  if (cell.test === 'write_lat') writePingPong(end, cell, false);
  await gone;
  end.close();
}

async function measure(host: string, cell: Cell, mode: Mode, port: number): Promise<Outcome> {
  let game: PingPong | undefined;
  const end = await connect(host, port, cell, (local) => {
    if (mode === 'busy') local.cq.busyPoll = BUSY_POLL;
    if (cell.test === 'send_lat' || cell.test === 'event_lat') game = new PingPong(local, cell, true);
  });
  let seconds = 0;
  let times: readonly number[] = [];
  if (cell.test === 'write_lat') times = writePingPong(end, cell, true);
  else if (game === undefined) seconds = await stream(end, cell, mode);
  else await game.run(mode);
  await end.id.disconnect();
  end.close();
  return outcome(cell, seconds, game?.times ?? times);
}

const [role, host = '', text = '{}', mode = 'poll', port] = process.argv.slice(2);
const cell = JSON.parse(text) as Cell;
if (role === 'server') await serve(host, cell, mode as Mode);
else console.log(JSON.stringify(await measure(host, cell, mode as Mode, Number(port))));
