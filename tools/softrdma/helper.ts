/** Compiles `softrdma-helper`, once per version of its source, into the cache. */
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { SoftRdmaError } from './errors.ts';
import { asset, cacheDir } from './paths.ts';

const SOURCES = ['main.c', 'agent.c', 'launch.c', 'lock.c', 'root.c', 'helper.h'];

/** The path of the helper program, compiled if need be. Throws `ERR_SOFTRDMA_TOOLS` where there is no C compiler. */
export async function ensureHelper(cache: string = cacheDir()): Promise<string> {
  const hash = createHash('sha256');
  for (const source of SOURCES) hash.update(readFileSync(asset('native', source)));
  const program = join(cache, `helper-${hash.digest('hex').slice(0, 12)}`);
  if (existsSync(program)) return program;
  mkdirSync(cache, { recursive: true });
  // Compiled aside and renamed: two runs at once both succeed, and neither sees half a program.
  const work = mkdtempSync(join(cache, 'helper-build-'));
  try {
    const built = join(work, 'helper');
    const sources = SOURCES.filter((name) => name.endsWith('.c')).map((name) => asset('native', name));
    await promisify(execFile)('cc', ['-O2', '-s', '-o', built, ...sources]);
    renameSync(built, program);
  } catch (cause) {
    const { code, stderr } = cause as NodeJS.ErrnoException & { stderr?: string };
    const why = code === 'ENOENT' ? 'there is no C compiler (cc). Install gcc' : stderr || String(cause);
    throw new SoftRdmaError('ERR_SOFTRDMA_TOOLS', `cannot compile the softrdma helper: ${why}`, { cause });
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
  return program;
}
