/** How many mappings a process of the host may have: each page of a program in a machine can take one. */
import { readFileSync, writeFileSync } from 'node:fs';

const MAX_MAP_COUNT = '/proc/sys/vm/max_map_count';
const PAGE = 4096;
/** For what the programs do not see: the stub's own, and those that are split for a moment. */
const SPARE = 1024;

/**
 * Raises vm.max_map_count so that one program can use all [bytes] of a machine; in vain without privilege. A program that
 * goes beyond the limit hangs: the kernel cannot map its page, and the program faults on it for ever.
 */
export function allowMappings(bytes: number, path = MAX_MAP_COUNT): void {
  const wanted = bytes / PAGE + SPARE;
  try {
    if (Number(readFileSync(path, 'utf8')) < wanted) writeFileSync(path, String(wanted));
  } catch {
    // Programs of up to 256 MiB go on as before, and most larger ones: pages that lie in a row share a mapping.
  }
}
