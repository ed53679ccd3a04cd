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
export function allowMappings(bytes: number): void {
  const wanted = bytes / PAGE + SPARE;
  try {
    if (Number(readFileSync(MAX_MAP_COUNT, 'utf8')) < wanted) writeFileSync(MAX_MAP_COUNT, String(wanted));
  } catch {
    // Programs of up to 256 MiB need no more; docs/softrdma.md says what larger ones need.
  }
}
