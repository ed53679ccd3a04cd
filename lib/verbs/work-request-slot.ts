/** How work requests become slots of a queue's ring: numbers are written where the addon reads them, no objects are made. */
import { inspect } from 'node:util';
import { RdmaError } from '../errors.ts';
import type { WorkRing } from '../ring/work-ring.ts';
import { AddressHandle } from './address-handle.ts';
import { FlushLevel, Opcode, SendFlags } from './constants.ts';
import { MemoryRegion } from './memory-region.ts';
import { MemoryWindow } from './memory-window.ts';
import type { ProtectionDomain } from './protection-domain.ts';
import type { QpType } from './qp-create.ts';
import type { RecvWr, SendWr, Sge } from './work-request.ts';

const TWO_32 = 0x1_0000_0000;
const MAX_QPN = 0xff_ffff;
const NO_SGES: readonly Sge[] = [];

/** What the filling of SGEs must know of their queue. @internal */
export interface SgeContext {
  /** Undefined for a shared receive queue. */
  readonly qpNum: number | undefined;
}

/** What takes SGEs: the ring of a queue pair, or of a shared receive queue. @internal */
export interface SgeSlots {
  readonly limits: { readonly maxSge: number };
  setSge(slot: number, index: number, addr: number, length: number, lkey: number): void;
}

/** What the filling of a slot must know of its queue. @internal */
export interface SlotContext extends SgeContext {
  readonly type: QpType;
  readonly pd: ProtectionDomain;
}

/** The fields of all work requests: which of them are there is checked by opcode. */
type Fields = Readonly<Record<string, unknown>>;

function wrong(context: SgeContext, index: number, code: string, text: string): RdmaError {
  return new RdmaError(code, `work request ${index}: ${text}`, {
    wrIndex: index,
    posted: 0,
    qpNum: context.qpNum,
  });
}

function wrongNumber(
  context: SlotContext,
  index: number,
  name: string,
  value: unknown,
  range: string,
): RdmaError {
  const number = typeof value === 'number' || typeof value === 'bigint';
  if (number) return wrong(context, index, 'ERR_OUT_OF_RANGE', `${name} ${value} is not in ${range}`);
  const what = value === undefined ? `${name} is missing` : `${name} is ${inspect(value)}`;
  return wrong(context, index, 'ERR_INVALID_ARG_TYPE', `${what}: give a number in ${range}`);
}

/** [value] as 32 bits. */
function u32(context: SlotContext, index: number, name: string, value: unknown): number {
  if ((value as number) >>> 0 !== value) throw wrongNumber(context, index, name, value, '0 … 2^32 - 1');
  return value;
}

/** The high word of the latest {@link u64}. */
let high = 0;

/** The low word of [value]; the high one is in `high`. */
function u64(context: SlotContext, index: number, name: string, value: unknown): number {
  if (typeof value === 'number' && value >= 0 && Number.isSafeInteger(value)) {
    high = (value / TWO_32) >>> 0;
    return value >>> 0;
  }
  if (typeof value !== 'bigint' || BigInt.asUintN(64, value) !== value) {
    throw wrongNumber(
      context,
      index,
      name,
      value,
      typeof value === 'number' ? '0 … 2^53 - 1; give a bigint for more' : '0 … 2^64 - 1',
    );
  }
  high = Number(value >> 32n);
  return Number(value & 0xffff_ffffn);
}

function fillSges(
  ring: SgeSlots,
  seq: number,
  sges: readonly Sge[],
  index: number,
  context: SgeContext,
): void {
  if (!Array.isArray(sges)) {
    throw wrong(
      context,
      index,
      'ERR_INVALID_ARG_TYPE',
      `sges must be an array of {addr, length, lkey}, not ${inspect(sges)}`,
    );
  }
  if (sges.length > ring.limits.maxSge) {
    throw wrong(
      context,
      index,
      'ERR_OUT_OF_RANGE',
      `${sges.length} SGEs, but this queue takes at most ${ring.limits.maxSge}`,
    );
  }
  for (let i = 0; i < sges.length; i += 1) {
    const sge = sges[i] as Sge;
    if (typeof sge !== 'object' || sge === null) {
      throw wrong(context, index, 'ERR_INVALID_ARG_TYPE', `SGE ${i} is ${inspect(sge)}`);
    }
    const { addr, length, lkey } = sge;
    // Written so that NaN, fractions and everything that is not a number fail too.
    if (!(addr >= 0 && addr <= Number.MAX_SAFE_INTEGER && Number.isInteger(addr))) {
      throw wrong(context, index, 'ERR_OUT_OF_RANGE', `SGE ${i}: addr ${addr} is not an address`);
    }
    if (length >>> 0 !== length) {
      throw wrong(context, index, 'ERR_OUT_OF_RANGE', `SGE ${i}: length ${length} is not in 0 … 2^32 - 1`);
    }
    if (lkey >>> 0 !== lkey) {
      throw wrong(context, index, 'ERR_OUT_OF_RANGE', `SGE ${i}: lkey ${lkey} is not in 0 … 2^32 - 1`);
    }
    ring.setSge(seq, i, addr, length, lkey);
  }
}

/** Fills the SGEs of [seq] with those of [wr], the receive [index] of its batch; returns how many. @internal */
export function fillRecvSges(
  ring: SgeSlots,
  seq: number,
  wr: RecvWr,
  index: number,
  context: SgeContext,
): number {
  if (typeof wr !== 'object' || wr === null) {
    throw wrong(context, index, 'ERR_INVALID_ARG_TYPE', `it is ${inspect(wr)}`);
  }
  fillSges(ring, seq, wr.sges, index, context);
  return wr.sges.length;
}

/** Fills the slot of [seq] with [wr], the work request [index] of its batch. @internal */
export function fillRecv(ring: WorkRing, seq: number, wr: RecvWr, index: number, context: SlotContext): void {
  const numSge = fillRecvSges(ring, seq, wr, index, context);
  ring.setWorkRequest(seq, 0, SendFlags.SIGNALED, numSge, 0, 0, 0, 0);
}

function fillDatagramTarget(
  ring: WorkRing,
  seq: number,
  fields: Fields,
  index: number,
  context: SlotContext,
): void {
  const { ah, remoteQpn, remoteQkey } = fields;
  if (!(ah instanceof AddressHandle)) {
    const text = `ah must be an AddressHandle, made by pd.createAh(), not ${inspect(ah, { depth: 0 })}`;
    throw wrong(context, index, 'ERR_INVALID_ARG_TYPE', text);
  }
  if (ah.closed) throw wrong(context, index, 'ERR_RDMA_CLOSED', 'the address handle is closed');
  if (ah.pd.base !== context.pd.base) {
    const text = 'ah is of another protection domain than the queue pair';
    throw wrong(context, index, 'ERR_INVALID_ARG_VALUE', text);
  }
  const qpn = u32(context, index, 'remoteQpn', remoteQpn);
  if (qpn > MAX_QPN) throw wrongNumber(context, index, 'remoteQpn', qpn, '0 … 2^24 - 1');
  ring.setTarget(seq, ah._handle, qpn, u32(context, index, 'remoteQkey', remoteQkey));
}

function fillTarget(ring: WorkRing, seq: number, fields: Fields, index: number, context: SlotContext): void {
  switch (context.type) {
    case 'UD':
      fillDatagramTarget(ring, seq, fields, index, context);
      return;
    case 'XRC_SEND': {
      const srqn = u32(context, index, 'remoteSrqn', fields.remoteSrqn);
      if (srqn > MAX_QPN) throw wrongNumber(context, index, 'remoteSrqn', srqn, '0 … 2^24 - 1');
      ring.setTarget(seq, 0, srqn, 0);
      return;
    }
    default:
  }
  if (fields.ah === undefined) return;
  const text = `ah is only for UD queue pairs, and this one is ${context.type}`;
  throw wrong(context, index, 'ERR_INVALID_ARG_VALUE', text);
}

function checkInline(
  ring: WorkRing,
  inline: unknown,
  index: number,
  context: SlotContext,
): asserts inline is Uint8Array {
  if (!(inline instanceof Uint8Array)) {
    throw wrong(
      context,
      index,
      'ERR_INVALID_ARG_TYPE',
      `inline must be a Uint8Array, not ${inspect(inline, { depth: 0 })}`,
    );
  }
  if (inline.length > ring.limits.maxInline) {
    throw wrong(
      context,
      index,
      'ERR_OUT_OF_RANGE',
      `${inline.length} bytes inline, but this queue pair takes at most ${ring.limits.maxInline}`,
    );
  }
}

function fillBind(ring: WorkRing, seq: number, fields: Fields, index: number, context: SlotContext): number {
  const { mw, bindInfo, rkey } = fields;
  if (!(mw instanceof MemoryWindow)) {
    const text = `mw must be a MemoryWindow, made by pd.allocMw(), not ${inspect(mw, { depth: 0 })}`;
    throw wrong(context, index, 'ERR_INVALID_ARG_TYPE', text);
  }
  if (typeof bindInfo !== 'object' || bindInfo === null) {
    const text = `bindInfo must be {mr, addr, length, access}, not ${inspect(bindInfo)}`;
    throw wrong(context, index, 'ERR_INVALID_ARG_TYPE', text);
  }
  const { mr, addr, length, access } = bindInfo as Fields;
  if (!(mr instanceof MemoryRegion)) {
    const text = `bindInfo.mr must be a MemoryRegion, not ${inspect(mr, { depth: 0 })}`;
    throw wrong(context, index, 'ERR_INVALID_ARG_TYPE', text);
  }
  for (const [name, object] of [
    ['mw', mw],
    ['bindInfo.mr', mr],
  ] as const) {
    if (object.closed) throw wrong(context, index, 'ERR_RDMA_CLOSED', `${name} is closed`);
    if (object.pd.base === context.pd.base) continue;
    const text = `${name} is of another protection domain than the queue pair`;
    throw wrong(context, index, 'ERR_INVALID_ARG_VALUE', text);
  }
  const flags = u32(context, index, 'bindInfo.access', access);
  const size = u64(context, index, 'bindInfo.length', length);
  const sizeHigh = high;
  const start = u64(context, index, 'bindInfo.addr', addr);
  ring.setOperands(seq, start, high, size, sizeHigh);
  ring.setWindow(seq, mw.rkey, mr.lkey, flags);
  return rkey === undefined ? 0 : u32(context, index, 'rkey', rkey);
}

/** The remaining operands of the opcodes that have some. */
function fillOperands(
  ring: WorkRing,
  seq: number,
  opcode: number,
  fields: Fields,
  index: number,
  context: SlotContext,
): void {
  switch (opcode) {
    case Opcode.ATOMIC_CMP_AND_SWP: {
      const swap = u64(context, index, 'swap', fields.swap);
      const swapHigh = high;
      const compare = u64(context, index, 'compareAdd', fields.compareAdd);
      ring.setOperands(seq, compare, high, swap, swapHigh);
      return;
    }
    case Opcode.ATOMIC_FETCH_AND_ADD: {
      const add = u64(context, index, 'compareAdd', fields.compareAdd);
      ring.setOperands(seq, add, high, 0, 0);
      return;
    }
    case Opcode.ATOMIC_WRITE: {
      const value = u64(context, index, 'value', fields.value);
      ring.setOperands(seq, value, high, 0, 0);
      return;
    }
    case Opcode.FLUSH: {
      const { flushType, flushLevel = FlushLevel.RANGE } = fields;
      const type = u32(context, index, 'flushType', flushType);
      const level = u32(context, index, 'flushLevel', flushLevel);
      const length = u64(context, index, 'length', fields.length);
      ring.setOperands(seq, length, high, type, level);
      return;
    }
    default:
  }
}

const bit = (opcode: number): number => 1 << opcode;

/** Sets of opcodes, a bit each. */
const REMOTE =
  bit(Opcode.RDMA_WRITE) |
  bit(Opcode.RDMA_WRITE_WITH_IMM) |
  bit(Opcode.RDMA_READ) |
  bit(Opcode.ATOMIC_CMP_AND_SWP) |
  bit(Opcode.ATOMIC_FETCH_AND_ADD) |
  bit(Opcode.FLUSH) |
  bit(Opcode.ATOMIC_WRITE);
const IMM = bit(Opcode.SEND_WITH_IMM) | bit(Opcode.RDMA_WRITE_WITH_IMM);
const INV = bit(Opcode.SEND_WITH_INV) | bit(Opcode.LOCAL_INV);
const OPERANDS =
  bit(Opcode.ATOMIC_CMP_AND_SWP) |
  bit(Opcode.ATOMIC_FETCH_AND_ADD) |
  bit(Opcode.FLUSH) |
  bit(Opcode.ATOMIC_WRITE);
const NO_SGE = bit(Opcode.FLUSH) | bit(Opcode.ATOMIC_WRITE) | bit(Opcode.BIND_MW) | bit(Opcode.LOCAL_INV);

/** Fills the slot of [seq] with [wr], the work request [index] of its batch; [more] are added to its flags. @internal */
export function fillSend(
  ring: WorkRing,
  seq: number,
  wr: SendWr,
  index: number,
  context: SlotContext,
  more = 0,
): void {
  if (typeof wr !== 'object' || wr === null) {
    throw wrong(context, index, 'ERR_INVALID_ARG_TYPE', `it is ${inspect(wr)}`);
  }
  const fields = wr as unknown as Fields;
  const opcode = u32(context, index, 'opcode', fields.opcode);
  // Unknown opcodes are refused by the addon, which knows what the device takes.
  const set = opcode < 32 ? bit(opcode) : 0;
  let lo = 0;
  let hi = 0;
  let rkey = 0;
  let imm = 0;
  if ((set & REMOTE) !== 0) {
    lo = u64(context, index, 'remoteAddr', fields.remoteAddr);
    hi = high;
    rkey = u32(context, index, 'rkey', fields.rkey);
  }
  if ((set & IMM) !== 0) imm = u32(context, index, 'immData', fields.immData);
  if ((set & INV) !== 0) imm = u32(context, index, 'invalidateRkey', fields.invalidateRkey);
  if ((set & OPERANDS) !== 0) fillOperands(ring, seq, opcode, fields, index, context);
  fillTarget(ring, seq, fields, index, context);
  if (opcode === Opcode.BIND_MW) rkey = fillBind(ring, seq, fields, index, context);

  const { inline } = fields;
  let flags = fields.flags === undefined ? more : u32(context, index, 'flags', fields.flags) | more;
  let sges = wr.sges ?? NO_SGES;
  if (inline !== undefined) {
    checkInline(ring, inline, index, context);
    flags |= SendFlags.INLINE;
    sges = NO_SGES;
  } else {
    if (wr.sges !== undefined || (set & NO_SGE) === 0) sges = wr.sges as readonly Sge[];
    fillSges(ring, seq, sges, index, context);
  }
  ring.setWorkRequest(seq, opcode, flags, sges.length, lo, hi, rkey, imm);
  if (inline !== undefined) ring.setInline(seq, inline as Uint8Array);
}
