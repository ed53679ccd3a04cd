/** Words for what {@link postStatus} says: why a work request was refused, in terms of the caller's arguments. */
import { errnoName, RdmaError } from '../errors.ts';
import { layout } from '../layout.ts';

const f = layout.postStatus;

const hex = (value: number): string => `0x${value.toString(16)}`;

/** By enum class PostCheck of native/core/layout.h. */
const checks: readonly ((value: number, limit: number, sge: number) => [code: string, text: string])[] = [
  () => ['EINVAL', 'the provider refused it'],
  () => ['ERR_RDMA_CLOSED', 'the queue pair is closed'],
  (n, free) => ['ENOBUFS', `${n} work requests do not fit into the queue, which has room for ${free}`],
  (op) => ['EOPNOTSUPP', `opcode ${op} is not one that this device takes`],
  (flags, known) => ['ERR_INVALID_ARG_VALUE', `send flags ${hex(flags)} are not all known (${hex(known)})`],
  (op) => ['ERR_INVALID_ARG_VALUE', `INLINE is only for SEND and RDMA WRITE, not for opcode ${op}`],
  () => ['EOPNOTSUPP', 'this device blocks its send queue for ever on a READ with FENCE'],
  (n, max) => ['ERR_OUT_OF_RANGE', `${n} SGEs, but this queue takes at most ${max}`],
  (n, max) => ['ERR_OUT_OF_RANGE', `an RDMA READ into ${n} SGEs, but this device takes at most ${max}`],
  (key, _, i) => [
    'ERR_INVALID_ARG_VALUE',
    `SGE ${i}: lkey ${hex(key)} is of no open memory region of this domain`,
  ],
  (n, size, i) => [
    'ERR_OUT_OF_RANGE',
    `SGE ${i}: its ${n} bytes are not all inside its memory region of ${size} bytes`,
  ],
  (key, _, i) => [
    'ERR_INVALID_ARG_VALUE',
    `SGE ${i}: the region of lkey ${hex(key)} lacks LOCAL_WRITE, and is written to`,
  ],
  (n, max) => ['ERR_OUT_OF_RANGE', `${n} bytes inline, but this queue pair takes at most ${max}`],
  (n, max) => ['ERR_OUT_OF_RANGE', `a message of ${n} bytes, but this port carries at most ${max}`],
];

/** The error of a failed post; [errno] is what the addon returned, [status] its record. */
export function postError(syscall: string, errno: number, status: Uint32Array, qpNum: number): RdmaError {
  const check = status[f.check] as number;
  const wrIndex = status[f.wr_index] as number;
  const posted = status[f.posted] as number;
  const describe = checks[check] ?? (checks[0] as (typeof checks)[0]);
  const [code, text] = describe(
    status[f.value] as number,
    status[f.limit] as number,
    status[f.sge_index] as number,
  );
  return new RdmaError(
    check === 0 ? errnoName(-errno) : code,
    `${syscall}: work request ${wrIndex}: ${text}${posted > 0 ? `; ${posted} before it are on their way` : ''}`,
    { syscall, errno: -errno, wrIndex, posted, qpNum },
  );
}
