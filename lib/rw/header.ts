// What the work requests of an operation say beside their memory: checked when it is called, written when it is posted.

import { type Mapped, slotsOf } from '../dma/mapping.ts';
import type { DmaDevice, DmaOp } from '../dma/types.ts';
import { invalidArgument, RdmaError } from '../errors.ts';
import { Opcode, SendFlags } from '../verbs/constants.ts';
import type { SendWr } from '../verbs/work-request.ts';
import type { RemoteMemory, RwOptions } from './types.ts';

/** @internal */
export interface WrHeader {
  /** Where READ, WRITE and atomics go; 0 for the others. */
  readonly remoteAddr: number | bigint;
  readonly rkey: number;
  /** Of the last work request of the list, which is the message where there is one; those before it are plain. */
  readonly opcode: number;
  /** What goes with {@link opcode}. */
  readonly extra: Readonly<Record<string, number | bigint>> | undefined;
}

const plainOpcodes = {
  send: Opcode.SEND,
  write: Opcode.RDMA_WRITE,
  read: Opcode.RDMA_READ,
  atomic: Opcode.ATOMIC_FETCH_AND_ADD,
  recv: -1,
} as const;

const MAX_U64 = 2n ** 64n - 1n;

/** The header of a SEND, RECV, WRITE or READ. Throws what {@link RwContext} says of its arguments. @internal */
export function headerOf(
  op: Exclude<DmaOp, 'atomic'>,
  remote: RemoteMemory | undefined,
  options: RwOptions,
  device: DmaDevice,
): WrHeader {
  const oneSided = op === 'read' || op === 'write';
  const { remoteAddr, rkey } = oneSided ? checkRemote(remote) : nowhere;
  const { immData, invalidateRkey, message } = options;
  if (message !== undefined && op !== 'write') {
    throw invalidArgument('ERR_INVALID_ARG_VALUE', `options.message is for a write, not for a ${op}`);
  }
  const last = message === undefined ? op : 'send';
  if (immData !== undefined) {
    if (invalidateRkey !== undefined) {
      throw invalidArgument(
        'ERR_INVALID_ARG_VALUE',
        'options.immData and options.invalidateRkey exclude each other: a message carries one 32-bit number',
      );
    }
    if (last !== 'send' && last !== 'write') {
      throw invalidArgument(
        'ERR_INVALID_ARG_VALUE',
        `options.immData is for a send or write, not for a ${op}`,
      );
    }
    checkU32('options.immData', immData);
    if (!device.caps.immediateData) throw lacking(device, 'immediate data; put it into the message');
    const opcode = last === 'send' ? Opcode.SEND_WITH_IMM : Opcode.RDMA_WRITE_WITH_IMM;
    return { remoteAddr, rkey, opcode, extra: { immData } };
  }
  if (invalidateRkey !== undefined) {
    if (last !== 'send') {
      throw invalidArgument(
        'ERR_INVALID_ARG_VALUE',
        `options.invalidateRkey is for a send, or the message of a write, not for a ${op}`,
      );
    }
    checkU32('options.invalidateRkey', invalidateRkey);
    if (!device.caps.sendWithInvalidate) {
      throw lacking(device, 'SEND_WITH_INV; let the peer revoke the key when it gets the message');
    }
    return { remoteAddr, rkey, opcode: Opcode.SEND_WITH_INV, extra: { invalidateRkey } };
  }
  return { remoteAddr, rkey, opcode: plainOpcodes[last], extra: undefined };
}

/** The header of an atomic operation; without [swap] a fetch and add. @internal */
export function atomicHeader(
  remote: RemoteMemory,
  compareAdd: number | bigint,
  swap: number | bigint | undefined,
  device: DmaDevice,
): WrHeader {
  if (!device.caps.hasAtomics) throw lacking(device, 'atomic operations');
  const { remoteAddr, rkey } = checkRemote(remote);
  if (pagePlace(remoteAddr) % 8 !== 0) {
    throw invalidArgument(
      'ERR_INVALID_ARG_VALUE',
      `remote.addr 0x${remoteAddr.toString(16)} is not divisible by 8, as an atomic operation needs it`,
    );
  }
  if (swap === undefined) {
    // A negative number is added as what wraps around to it.
    const add = typeof compareAdd === 'bigint' ? compareAdd : toBigInt('add', compareAdd);
    if (add < -(2n ** 63n) || add > MAX_U64) throw notU64('add', add);
    return {
      remoteAddr,
      rkey,
      opcode: Opcode.ATOMIC_FETCH_AND_ADD,
      extra: { compareAdd: BigInt.asUintN(64, add) },
    };
  }
  return {
    remoteAddr,
    rkey,
    opcode: Opcode.ATOMIC_CMP_AND_SWP,
    extra: { compareAdd: checkU64('expected', compareAdd), swap: checkU64('replacement', swap) },
  };
}

/** Appends the work requests of [mapping]; the last of all is signalled. @internal */
export function fillSend(mapping: Mapped, header: WrHeader, wrs: SendWr[]): void {
  const { remoteAddr, rkey, opcode: lastOpcode, extra } = header;
  const end = wrs.length + slotsOf(mapping);
  for (let part: Mapped | undefined = mapping; part !== undefined; part = part.tail) {
    const { inlineBytes } = part;
    const plain = plainOpcodes[part.op];
    for (const { sges, offset, signal } of part.wrs) {
      const isLast = wrs.length === end - 1;
      const flags = (part.inline ? SendFlags.INLINE : 0) | (isLast || signal ? SendFlags.SIGNALED : 0);
      const opcode = isLast ? lastOpcode : plain;
      const wr =
        inlineBytes === undefined
          ? { opcode, sges, flags, remoteAddr: addressAt(remoteAddr, offset), rkey }
          : { opcode, inline: inlineBytes, flags, remoteAddr: addressAt(remoteAddr, offset), rkey };
      wrs.push((isLast && extra !== undefined ? { ...wr, ...extra } : wr) as SendWr);
    }
  }
}

function lacking({ name }: DmaDevice, what: string): RdmaError {
  return new RdmaError('EOPNOTSUPP', `${name} has no ${what}`, { errno: -95, device: name });
}

/** Above this an address is kept as a bigint: that of a work request further on would not be exact. */
const MAX_EXACT = Number.MAX_SAFE_INTEGER - 0xffff_ffff;

/** Of what has no peer's memory. */
const nowhere = { remoteAddr: 0, rkey: 0 };

function checkRemote(remote: RemoteMemory | undefined): { remoteAddr: number | bigint; rkey: number } {
  if (typeof remote !== 'object' || remote === null) {
    throw invalidArgument(
      'ERR_INVALID_ARG_TYPE',
      `remote must be the peer's { addr, rkey }, got ${remote === null ? 'null' : typeof remote}`,
    );
  }
  return { remoteAddr: checkAddr(remote.addr), rkey: checkU32('remote.rkey', remote.rkey) };
}

function checkAddr(addr: number | bigint): number | bigint {
  const whole = typeof addr === 'bigint' ? addr <= MAX_U64 : Number.isSafeInteger(addr);
  if (!whole || addr < 0) {
    throw invalidArgument(
      'ERR_OUT_OF_RANGE',
      `remote.addr must be an address from 0 to 2^64 - 1, a bigint above 2^53 - 1, got ${addr}`,
    );
  }
  return addr > MAX_EXACT ? BigInt(addr) : Number(addr);
}

function addressAt(base: number | bigint, offset: number): number | bigint {
  return typeof base === 'bigint' ? base + BigInt(offset) : base + offset;
}

/** A number with the same place in its page as an address; what the mapping is cut by. @internal */
export function pagePlace(addr: number | bigint): number {
  return typeof addr === 'bigint' ? Number(addr & 0xffff_ffffn) : addr;
}

function checkU32(name: string, value: number): number {
  if (!Number.isInteger(value) || value < 0 || value > 0xffffffff) {
    throw invalidArgument('ERR_OUT_OF_RANGE', `${name} must be an integer from 0 to 2^32 - 1, got ${value}`);
  }
  return value;
}

function toBigInt(name: string, value: number): bigint {
  if (!Number.isSafeInteger(value)) throw notU64(name, value);
  return BigInt(value);
}

function checkU64(name: string, value: number | bigint): bigint {
  const wide = typeof value === 'bigint' ? value : toBigInt(name, value);
  if (wide < 0n || wide > MAX_U64) throw notU64(name, value);
  return wide;
}

function notU64(name: string, value: unknown): RdmaError {
  return invalidArgument(
    'ERR_OUT_OF_RANGE',
    `${name} must be an integer of 64 bits, a bigint above 2^53 - 1; got ${String(value)}`,
  );
}
