/** Two connected ends with memory, and messages between them. */
import { expect } from 'vitest';
import {
  Access,
  type AddressHandle,
  type CqOptions,
  type MemoryRegion,
  Opcode,
  type ProtectionDomain,
  type QpOptions,
  type QueuePair,
  type SendWr,
  type Sge,
  WcStatus,
} from '../../lib/index.ts';
import { connectManually, loopback, type ManualAttrs, QKEY } from '../device/helpers/manual.ts';
import { connectedPair } from '../device/helpers/pair.ts';
import { rdmaErrorOf } from '../device/helpers/rejection.ts';
import type { Env } from './harness.ts';

/** One end of a connection. */
export interface End {
  readonly qp: QueuePair;
  readonly mr: MemoryRegion;
  readonly bytes: Buffer;
  /** What a datagram is addressed with; empty for a connected queue pair. */
  readonly target: { readonly ah?: AddressHandle; readonly remoteQpn?: number; readonly remoteQkey?: number };
}

/** Both ends; disposing them closes the connection. */
export interface Ends {
  readonly client: End;
  readonly server: End;
  [Symbol.asyncDispose](): Promise<void>;
}

export interface EndsOptions extends Omit<QpOptions, 'sendCq' | 'recvCq' | 'type'> {
  /** Bytes of memory at each end; 4096 by default. */
  readonly size?: number;
  /** Of the memory; local write, remote read and remote write by default. */
  readonly access?: number;
}

export interface ManualOptions extends EndsOptions {
  readonly cq?: CqOptions;
  readonly attrs?: ManualAttrs;
}

const ALL = Access.LOCAL_WRITE | Access.REMOTE_READ | Access.REMOTE_WRITE;
/** Bytes of the global routing header, ahead of every datagram in its receive's memory. */
const GRH = 40;

/** Two RC ends that rdma_cm has connected: every device can do that. */
export async function rcEnds({ name }: Env, options: EndsOptions = {}): Promise<Ends> {
  const { size = 4096, access = ALL, ...rest } = options;
  const pair = await connectedPair(name, rest);
  const [client, server] = [await pages(pair.pd, size, access), await pages(pair.pd, size, access)];
  return {
    client: { qp: pair.client.qp, target: {}, ...client },
    server: { qp: pair.server.qp, target: {}, ...server },
    [Symbol.asyncDispose]: pair.close,
  };
}

/** Whole pages of memory, as on-demand regions of rxe need them (quirk on-demand-offset). */
async function pages(pd: ProtectionDomain, size: number, access: number) {
  const slab = await pd.allocSlab(size, Access.LOCAL_WRITE);
  const mr = await pd.regMr(slab.buffer, access, { wholePages: true });
  return { bytes: Buffer.from(slab.buffer), mr };
}

/** Two ends that are connected by hand: RoCE only. */
export function manualEnds({ device, pd }: Env, type: 'RC' | 'UC' | 'UD', options: ManualOptions = {}): Ends {
  const { size = 4096, access = ALL, cq = {}, attrs = {}, ...rest } = options;
  const cqs = [device.createCq(cq), device.createCq(cq)] as const;
  const qps = cqs.map((sendCq) => pd.createQp({ ...rest, type, sendCq }));
  const memories = qps.map(() => {
    const bytes = Buffer.alloc(size);
    return { bytes, mr: pd.regMrSync(bytes, access) };
  });
  const [a, b] = qps as [QueuePair, QueuePair];
  connectManually(a, b, attrs);
  const ah = type === 'UD' ? pd.createAh(loopback(device.name)) : undefined;
  const end = (i: 0 | 1, peer: QueuePair): End => ({
    qp: qps[i] as QueuePair,
    ...(memories[i] as (typeof memories)[0]),
    target: ah === undefined ? {} : { ah, remoteQpn: peer.qpNum, remoteQkey: QKEY },
  });
  return {
    client: end(0, b),
    server: end(1, a),
    async [Symbol.asyncDispose]() {
      for (const cq of cqs) cq.close();
      ah?.close();
      await Promise.all(memories.map(({ mr }) => mr.close()));
    },
  };
}

/** A piece of an end's memory. */
export function sge({ mr }: Pick<End, 'mr'>, length: number, offset = 0): Sge {
  return { addr: mr.addr + offset, length, lkey: mr.lkey };
}

/** A WRITE or READ of [from] on the start of the memory of [to]. */
export function remote(
  opcode: typeof Opcode.RDMA_WRITE | typeof Opcode.RDMA_READ,
  from: Pick<End, 'mr'>,
  to: Pick<End, 'mr'>,
  length: number,
): SendWr {
  const target = { sges: [sge(from, length)], remoteAddr: to.mr.addr, rkey: to.mr.rkey };
  return opcode === Opcode.RDMA_READ ? { opcode, ...target } : { opcode, ...target };
}

/** Sends [length] bytes of [value] from one end to the other, with immediate data if given, and checks what arrives. */
export async function message(
  from: End,
  to: End,
  length: number,
  value: number,
  immData?: number,
): Promise<void> {
  const headroom = to.qp.type === 'UD' ? GRH : 0;
  from.bytes.fill(value, 0, length);
  to.bytes.fill(0);
  const received = to.qp.recv({ sges: [sge(to, headroom + length)] });
  const payload = { sges: [sge(from, length)], ...from.target };
  const sent =
    immData === undefined
      ? from.qp.send({ opcode: Opcode.SEND, ...payload })
      : from.qp.send({ opcode: Opcode.SEND_WITH_IMM, immData, ...payload });
  const [completion] = await Promise.all([received, sent]);
  expect(completion.byteLen).toBe(headroom + length);
  expect(completion.immData).toBe(immData);
  const arrived = to.bytes.subarray(headroom);
  expect(arrived.subarray(0, length).equals(Buffer.alloc(length, value))).toBe(true);
  expect(arrived.subarray(length).every((byte) => byte === 0)).toBe(true);
}

/** Messages to and fro. */
export async function pingPong({ client, server }: Ends, rounds = 10, length = 1024, immData?: number) {
  for (let round = 0; round < rounds; round += 1) {
    await message(client, server, length, 2 * round + 1, immData);
    await message(server, client, length, 2 * round + 2, immData);
  }
}

/** A message without bytes: what was done before it on the connection has arrived with it, on siw too. */
export async function settle({ client, server }: Pick<Ends, 'client' | 'server'>): Promise<void> {
  const received = server.qp.recv({ sges: [] });
  await Promise.all([received, client.qp.send({ opcode: Opcode.SEND, sges: [] })]);
}

/** RDMA WRITEs of [length] bytes, to the memory or through [rkey]. */
export async function writes(ends: Ends, rounds = 10, length = 1024, rkey = ends.server.mr.rkey) {
  const { client, server } = ends;
  for (let round = 1; round <= rounds; round += 1) {
    client.bytes.fill(round, 0, length);
    server.bytes.fill(0);
    await client.qp.send({ ...remote(Opcode.RDMA_WRITE, client, server, length), rkey } as SendWr);
    await settle(ends);
    expect(server.bytes.subarray(0, length).equals(Buffer.alloc(length, round))).toBe(true);
    expect(server.bytes.subarray(length).every((byte) => byte === 0)).toBe(true);
  }
}

/** RDMA READs of [length] bytes. */
export async function reads({ client, server }: Ends, rounds = 10, length = 1024): Promise<void> {
  for (let round = 1; round <= rounds; round += 1) {
    server.bytes.fill(round, 0, length);
    client.bytes.fill(0);
    await client.qp.send(remote(Opcode.RDMA_READ, client, server, length));
    expect(client.bytes.subarray(0, length).equals(Buffer.alloc(length, round))).toBe(true);
    expect(client.bytes.subarray(length).every((byte) => byte === 0)).toBe(true);
  }
}

/** [wr] completes with one of [statuses], and nothing of it is seen in the memory of the peer. */
export async function fails(
  { client, server }: Ends,
  wr: SendWr,
  statuses: readonly number[],
): Promise<void> {
  server.bytes.fill(0x55);
  const error = await rdmaErrorOf(() => client.qp.send(wr));
  expect(error.code).toMatch(/^ERR_RDMA_WC_/);
  expect(statuses, error.code).toContain(error.wcStatus);
  expect(server.bytes.every((byte) => byte === 0x55)).toBe(true);
}

/** How a peer refuses: by a status on InfiniBand and RoCE; iWARP ends the connection. */
export const REFUSED = [WcStatus.REM_ACCESS_ERR, WcStatus.REM_INV_REQ_ERR, WcStatus.REM_OP_ERR] as const;
