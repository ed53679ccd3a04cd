import { RdmaError } from '../../../lib/index.ts';

/** The RdmaError that [action] throws or rejects with; anything else fails the test. */
export async function rdmaErrorOf(action: () => unknown): Promise<RdmaError> {
  try {
    await action();
  } catch (error) {
    if (error instanceof RdmaError) return error;
    throw error;
  }
  throw new Error('expected an RdmaError, but nothing was thrown');
}
