/** Finds a kernel to run: the one that the user names, a cached one, or one built now. */
import { accessSync, constants } from 'node:fs';
import { SoftRdmaError } from '../errors.ts';

/** The kernel named by `NODE_RDMA_SOFT_KERNEL`, if any. Throws `ERR_SOFTRDMA_ARGUMENT` when it cannot be run. */
export function namedKernel(env: NodeJS.ProcessEnv = process.env): string | undefined {
  const path = env.NODE_RDMA_SOFT_KERNEL;
  if (!path) return undefined;
  try {
    accessSync(path, constants.X_OK);
  } catch (cause) {
    const message = `NODE_RDMA_SOFT_KERNEL is ${path}, which is not a program that can be run. Unset it to have a kernel built.`;
    throw new SoftRdmaError('ERR_SOFTRDMA_ARGUMENT', message, { cause });
  }
  return path;
}

/** The kernel to run. */
export async function ensureKernel(): Promise<string> {
  const named = namedKernel();
  if (named) return named;
  throw new SoftRdmaError('ERR_SOFTRDMA_SOURCE', 'set NODE_RDMA_SOFT_KERNEL');
}
