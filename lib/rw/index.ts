// The read/write context.

export { RwContext, type RwContextOptions } from './rw-context.ts';
export { type RwLoad, type RwSizing, rwSizing, type SizedDevice } from './sizing.ts';
export type { RemoteMemory, RwOptions, RwResult } from './types.ts';
