// The user-space counterpart of the kernel's local_dma_lkey: a key that reaches memory without registering it first.

import { invalidArgument } from '../errors.ts';
import { Access } from '../verbs/constants.ts';
import { addressOf } from '../verbs/memory-region.ts';
import { Arena } from './arena.ts';
import { dmaOpsOf, knowsDmaOps } from './ops.ts';
import type { DmaLocalKey, DmaMr, DmaPd } from './types.ts';

/**
 * What a local key reaches:
 * - `allMemory`: every byte of the process (implicit on-demand paging); nothing is registered or copied any more.
 * - `arena`: the memory of {@link Arena.for} the protection domain.
 */
export type LocalKeyKind = 'allMemory' | 'arena';

const opened = new WeakMap<DmaPd, Promise<LocalKeyKind>>();

/**
 * Obtains the local key of [pd], for all builders and contexts that are made on it from then on: a region over all memory
 * where the device has implicit on-demand paging, otherwise the arena, with a first slab. Calling it is a choice: memory from
 * V8 must then not be detached (`transfer()`, `postMessage()`) while an operation uses it, since no region holds its pages.
 * Without the call, or on a device without such regions (all soft ones), such memory is copied or registered, and that is safe.
 *
 * @throws RdmaError ERR_INVALID_STATE when [pd] has builders or contexts already; the errors of
 *   {@link ProtectionDomain.regImplicitOdp} and {@link Arena.alloc}
 */
export function openLocalKey(pd: DmaPd): Promise<LocalKeyKind> {
  let kind = opened.get(pd);
  if (kind === undefined) {
    kind = open(pd);
    opened.set(pd, kind);
    kind.catch(() => opened.delete(pd));
  }
  return kind;
}

async function open(pd: DmaPd): Promise<LocalKeyKind> {
  const { implicit, rc } = pd.device.caps.odp;
  if (implicit && rc.send && rc.recv && rc.write && rc.read && pd.regImplicitOdp !== undefined) {
    checkUnused(pd);
    const mr = await pd.regImplicitOdp(Access.LOCAL_WRITE);
    if (knowsDmaOps(pd)) {
      await mr.close();
      checkUnused(pd);
    }
    dmaOpsOf(pd, keyOf(pd, mr));
    return 'allMemory';
  }
  const block = await Arena.for(pd).alloc(1);
  block.free();
  return 'arena';
}

function keyOf(pd: DmaPd, { lkey }: DmaMr): DmaLocalKey {
  return { lkey, addressOf: (view) => pd.addressOf?.(view) ?? addressOf(view) };
}

function checkUnused(pd: DmaPd): void {
  if (!knowsDmaOps(pd)) return;
  throw invalidArgument(
    'ERR_INVALID_STATE',
    'this protection domain has builders or contexts already: obtain its local key before they are made',
  );
}
