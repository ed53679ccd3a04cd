/** Words for what {@link postStatus} says: why a work request was refused, in terms of the caller's arguments. */
import { errnoName, RdmaError } from '../errors.ts';
import { layout } from '../layout.ts';

const f = layout.postStatus;

const hex = (value: number): string => `0x${value.toString(16)}`;

const opcodes: Readonly<Record<number, string>> = {
  0: 'RDMA_WRITE',
  1: 'RDMA_WRITE_WITH_IMM',
  2: 'SEND',
  3: 'SEND_WITH_IMM',
  4: 'RDMA_READ',
  5: 'ATOMIC_CMP_AND_SWP',
  6: 'ATOMIC_FETCH_AND_ADD',
  7: 'LOCAL_INV',
  8: 'BIND_MW',
  9: 'SEND_WITH_INV',
  14: 'FLUSH',
  15: 'ATOMIC_WRITE',
};
const types: Readonly<Record<number, string>> = {
  2: 'RC',
  3: 'UC',
  4: 'UD',
  8: 'RAW_PACKET',
  9: 'XRC_SEND',
  10: 'XRC_RECV',
};
const states = ['RESET', 'INIT', 'RTR', 'RTS'];
const flagNames: Readonly<Record<number, string>> = {
  1: 'FENCE',
  2: 'SIGNALED',
  4: 'SOLICITED',
  8: 'INLINE',
};

const opcodeOf = (op: number): string =>
  opcodes[op] === undefined ? `opcode ${op}` : `opcode ${op} (${opcodes[op]})`;

type Describe = (value: number, limit: number, sge: number) => [code: string, text: string];

/** By enum class PostCheck of native/core/layout.h, which names them in this order. */
export const checks = {
  none: () => ['EINVAL', 'the provider refused it'],
  closed: () => ['ERR_RDMA_CLOSED', 'the queue pair is closed'],
  ring: (n, free) => ['ENOBUFS', `${n} work requests do not fit into the queue, which has room for ${free}`],
  opcode: (op) => ['EOPNOTSUPP', `${opcodeOf(op)} is not one that this device takes`],
  flags: (flags, known) => [
    'ERR_INVALID_ARG_VALUE',
    `send flags ${hex(flags)} are not all known (${hex(known)})`,
  ],
  inlineOpcode: (op) => [
    'ERR_INVALID_ARG_VALUE',
    `INLINE is only for SEND and RDMA WRITE here, not for ${opcodeOf(op)}`,
  ],
  fenceRead: () => [
    'EOPNOTSUPP',
    'this device blocks its send queue for ever on a READ with FENCE (quirk read-fence)',
  ],
  numSge: (n, max) => ['ERR_OUT_OF_RANGE', `${n} SGEs, but this queue takes at most ${max}`],
  readSge: (n, max) => [
    'ERR_OUT_OF_RANGE',
    `an RDMA READ into ${n} SGEs, but this device takes at most ${max}`,
  ],
  lkey: (key, _, i) => [
    'ERR_INVALID_ARG_VALUE',
    `SGE ${i}: lkey ${hex(key)} is of no open memory region of this domain`,
  ],
  range: (n, size, i) => [
    'ERR_OUT_OF_RANGE',
    `SGE ${i}: its ${n} bytes are not all inside its memory region of ${size} bytes`,
  ],
  localWrite: (key, _, i) => [
    'ERR_INVALID_ARG_VALUE',
    `SGE ${i}: the region of lkey ${hex(key)} lacks LOCAL_WRITE, and is written to`,
  ],
  inlineLength: (n, max) => [
    'ERR_OUT_OF_RANGE',
    `${n} bytes inline, but this queue pair takes at most ${max}`,
  ],
  messageLength: (n, max) => [
    'ERR_OUT_OF_RANGE',
    `a message of ${n} bytes, but this port carries at most ${max}`,
  ],
  opcodeOfType: (op, type) => [
    'ERR_INVALID_ARG_VALUE',
    `${opcodeOf(op)} is not one that ${types[type] ?? 'such'} queue pairs have (ibv_post_send(3))`,
  ],
  notReady: (state, needed) => [
    'ENOTCONN',
    `the queue pair is in the state ${states[state] ?? state}: connect it first, to ${states[needed]} at least`,
  ],
  flagOpcode: (flag, op) => [
    'ERR_INVALID_ARG_VALUE',
    `${flagNames[flag] ?? hex(flag)} is not for ${opcodeOf(op)} of this queue pair (ibv_post_send(3))`,
  ],
  noSges: (op) => ['ERR_INVALID_ARG_VALUE', `${opcodeOf(op)} takes no SGEs`],
  atomicLength: (n, sges) => [
    'ERR_OUT_OF_RANGE',
    `an atomic needs one SGE of 8 bytes for the old value, not ${n} bytes in ${sges} SGEs`,
  ],
  atomicAlignment: (addr, multiple) => [
    'ERR_OUT_OF_RANGE',
    `remoteAddr …${hex(addr)} of an atomic must be divisible by ${multiple}`,
  ],
  addressHandle: () => [
    'ERR_INVALID_ARG_VALUE',
    'ah is no open address handle of the protection domain of this queue pair',
  ],
  remoteQpn: (qpn, max) => ['ERR_OUT_OF_RANGE', `remoteQpn ${qpn} is more than ${max}`],
  tinyStraddle: (n, first) => [
    'EOPNOTSUPP',
    `an RDMA READ of ${n} bytes whose remote range crosses a 4096-byte page would arrive damaged from this device ` +
      `(quirk tiny-straddle): post two, of ${first} and ${n - first} bytes`,
  ],
  extended: (op) => [
    'EOPNOTSUPP',
    `${opcodeOf(op)} needs ibv_wr_post(3), which this queue pair lacks for it` +
      (op === 14 ? ': FLUSH came with rdma-core 45' : ''),
  ],
  flush: (type, level) => [
    'ERR_OUT_OF_RANGE',
    `flushType ${type} must be of FlushType and flushLevel ${level} one of FlushLevel`,
  ],
  unclear: () => [
    'EIO',
    'the provider failed without naming a work request: those before may be carried out',
  ],
  window: (rkey) => [
    'ERR_INVALID_ARG_VALUE',
    `mw: rkey ${hex(rkey)} is of no open memory window of the protection domain of this queue pair`,
  ],
  windowBound: (rkey) => [
    'ERR_INVALID_ARG_VALUE',
    `the window with rkey ${hex(rkey)} is bound: invalidate it first (ibv_bind_mw(3))`,
  ],
  windowRegion: (lkey) => [
    'ERR_INVALID_ARG_VALUE',
    `bindInfo.mr: lkey ${hex(lkey)} is of no open memory region of this domain`,
  ],
  windowAllow: (lkey) => [
    'ERR_INVALID_ARG_VALUE',
    `bindInfo.mr: the region of lkey ${hex(lkey)} lacks MW_BIND, which windows need`,
  ],
  windowRange: (n, size) => [
    'ERR_OUT_OF_RANGE',
    `bindInfo: the window's ${n} bytes are not all inside the region of ${size} bytes`,
  ],
  windowAccess: (access, allowed) => [
    'ERR_INVALID_ARG_VALUE',
    `bindInfo.access ${hex(access)}: this type of window can have ${hex(allowed)} at most`,
  ],
  windowLocalWrite: (lkey) => [
    'ERR_INVALID_ARG_VALUE',
    `bindInfo.access allows writes, but the region of lkey ${hex(lkey)} lacks LOCAL_WRITE`,
  ],
  windowLength: () => [
    'ERR_OUT_OF_RANGE',
    'bindInfo.length is 0, which only type 1 takes: invalidate a window of type 2 by LOCAL_INV',
  ],
  windowKey: (rkey, present) => [
    'ERR_INVALID_ARG_VALUE',
    present === 0
      ? `rkey ${hex(rkey)}: the device chooses the rkey of a window of type 1`
      : `rkey ${hex(rkey)} may differ from the window's ${hex(present)} in the low 8 bits only`,
  ],
  invalidate: (rkey) => [
    'ERR_INVALID_ARG_VALUE',
    `invalidateRkey ${hex(rkey)} is not that of a bound memory window of type 2 of this domain: nothing else can be ` +
      'invalidated',
  ],
  pageStart: (offset, _, i) => [
    'EOPNOTSUPP',
    `SGE ${i} begins ${offset} bytes after a page, or is at such a place in the message: this device carries out ` +
      'ON_DEMAND regions from page starts only (quirk on-demand-offset)',
  ],
} as const satisfies Record<string, Describe>;

const list: readonly Describe[] = Object.values(checks);
const CHECK_NONE = 0;
const CHECK_UNCLEAR = list.indexOf(checks.unclear);

/** The error of a failed post; [errno] is what the addon returned, [status] its record. */
export function postError(
  syscall: string,
  errno: number,
  status: Uint32Array,
  qpNum: number | undefined,
): RdmaError {
  const check = status[f.check] as number;
  const wrIndex = status[f.wr_index] as number;
  const posted = status[f.posted] as number;
  const describe = list[check] ?? checks.none;
  const [code, text] = describe(
    status[f.value] as number,
    status[f.limit] as number,
    status[f.sge_index] as number,
  );
  return new RdmaError(
    check === CHECK_NONE || check === CHECK_UNCLEAR ? errnoName(-errno) : code,
    `${syscall}: work request ${wrIndex}: ${text}${posted > 0 ? `; ${posted} before it are on their way` : ''}`,
    { syscall, errno: -errno, wrIndex, posted, qpNum },
  );
}
