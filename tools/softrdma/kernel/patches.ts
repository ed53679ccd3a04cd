/** What is changed in the kernel's source before it is built. */
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

/** A replacement in one file. */
export interface Patch {
  file: string;
  /** Occurs exactly once. */
  from: string;
  to: string;
}

/** Part of what identifies a kernel in the cache. */
export const PATCHES: readonly Patch[] = [
  {
    // With 100 ticks a second, two programs that poll hold both processors for 10 ms at a time.
    file: 'arch/um/Kconfig',
    from: 'config HZ\n\tint\n\tdefault 100\n',
    to: 'config HZ\n\tint\n\tdefault 1000\n',
  },
  {
    // siw_accept() sends the MPA reply before it takes over the socket. What a quick client sends in between is in the
    // socket, its arrival announced to nobody: about one connection in thirty never gets its first message.
    file: 'drivers/infiniband/sw/siw/siw_cm.c',
    from: '\t\tsiw_qp_socket_assoc(cep, qp);\n\t\trv = siw_cm_upcall(cep, IW_CM_EVENT_ESTABLISHED, 0);\n',
    to:
      '\t\tsiw_qp_socket_assoc(cep, qp);\n' +
      '\t\tlock_sock(cep->sock->sk);\n' +
      '\t\tsiw_qp_llp_data_ready(cep->sock->sk);\n' +
      '\t\trelease_sock(cep->sock->sk);\n' +
      '\t\trv = siw_cm_upcall(cep, IW_CM_EVENT_ESTABLISHED, 0);\n',
  },
];

/**
 * Applies a patch below `source`. False, with nothing changed, when the text to replace is not there just once: a later
 * kernel may have the same cure, or need none.
 */
export function applyPatch(source: string, patch: Patch): boolean {
  const path = join(source, patch.file);
  if (!existsSync(path)) return false;
  const parts = readFileSync(path, 'utf8').split(patch.from);
  if (parts.length !== 2) return false;
  writeFileSync(path, parts.join(patch.to));
  return true;
}
