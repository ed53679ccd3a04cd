// The read/write context.

export { RwContext, type RwContextOptions, type RwOptions } from './rw-context.ts';
export type { RemoteMemory, RwResult } from './types.ts';
