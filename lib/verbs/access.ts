/** Which access flags can go together (ibv_reg_mr(3), ibv_reg_dmabuf_mr(3)). */
import { invalidArgument } from '../errors.ts';
import { checkInteger } from './check.ts';
import { Access } from './constants.ts';

const REMOTE_WRITES = Access.REMOTE_WRITE | Access.REMOTE_ATOMIC;

/** What a kind of region can have. */
const kinds = {
  memory: Object.values(Access).reduce((all, flag) => all | flag, 0),
  slab: ~(Access.ZERO_BASED | Access.HUGETLB) & Object.values(Access).reduce((all, flag) => all | flag, 0),
  dmabuf: Access.LOCAL_WRITE | Access.REMOTE_READ | REMOTE_WRITES | Access.RELAXED_ORDERING,
  deviceMemory:
    Access.LOCAL_WRITE | Access.REMOTE_READ | REMOTE_WRITES | Access.ZERO_BASED | Access.RELAXED_ORDERING,
  implicit:
    Access.LOCAL_WRITE | Access.REMOTE_READ | REMOTE_WRITES | Access.ON_DEMAND | Access.RELAXED_ORDERING,
} as const;

/** Names of the flags in [access]. @internal */
export function accessNames(access: number): string {
  const names = Object.entries(Access)
    .filter(([, flag]) => (access & flag) !== 0)
    .map(([name]) => name);
  return names.length === 0 ? '0' : names.join(' | ');
}

function refuse(access: number, why: string): never {
  throw invalidArgument('ERR_INVALID_ARG_VALUE', `access ${accessNames(access)}: ${why}`);
}

/** Throws unless [access] is a combination of flags that a region of [kind] can have. @internal */
export function checkAccess(access: unknown, kind: keyof typeof kinds = 'memory'): asserts access is number {
  checkInteger('access', access, 0, 0xffff_ffff);
  const unknown = access & ~kinds.memory;
  if (unknown !== 0) {
    throw invalidArgument(
      'ERR_INVALID_ARG_VALUE',
      `access 0x${access.toString(16)} has flags that are not in Access: 0x${(unknown >>> 0).toString(16)}`,
    );
  }
  const unfit = access & ~kinds[kind];
  if (unfit !== 0) {
    const what = {
      memory: 'memory',
      slab: 'a slab',
      dmabuf: 'a dma-buf',
      deviceMemory: 'device memory',
      implicit: 'all addresses',
    }[kind];
    refuse(access, `a region of ${what} can not have ${accessNames(unfit)}`);
  }
  if ((access & REMOTE_WRITES) !== 0 && (access & Access.LOCAL_WRITE) === 0) {
    refuse(access, 'REMOTE_WRITE and REMOTE_ATOMIC need LOCAL_WRITE as well (ibv_reg_mr(3))');
  }
  if ((access & Access.HUGETLB) !== 0 && (access & Access.ON_DEMAND) === 0) {
    refuse(access, 'HUGETLB is for ON_DEMAND regions only (ibv_reg_mr(3))');
  }
}
