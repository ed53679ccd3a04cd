/** One builder at a time, whoever crashes. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { SoftRdmaError } from '../errors.ts';

/**
 * Runs `work` while holding the lock `file`. The lock is the kernel's (flock), held by a helper that ends with this
 * process, so that a crash cannot leave it locked.
 *
 * @param onWait - called when somebody else holds it and this has to wait.
 */
export async function withLock<T>(
  helper: string,
  file: string,
  onWait: () => void,
  work: () => Promise<T>,
): Promise<T> {
  const holder = spawn(helper, ['lock', file], { stdio: ['pipe', 'pipe', 'inherit'], detached: true });
  const gone = once(holder, 'exit');
  holder.stdin.on('error', () => {});
  await new Promise<void>((resolve, reject) => {
    let said = '';
    let waiting = false;
    holder.stdout.on('data', (chunk: Buffer) => {
      said += chunk.toString();
      if (!waiting && said.includes('waiting\n')) {
        waiting = true;
        onWait();
      }
      if (said.includes('locked\n')) resolve();
    });
    gone.then(
      ([code]) =>
        reject(new SoftRdmaError('ERR_SOFTRDMA_BUILD', `cannot lock ${file}: helper ended with ${code}`)),
      reject,
    );
  });
  try {
    return await work();
  } finally {
    holder.stdin.end();
    await gone;
  }
}
