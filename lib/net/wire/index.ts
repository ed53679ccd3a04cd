/** The protocol of rsockets, version 1: bytes in, checked numbers out, and the other way round. Nothing here has any state. */
export * from './conn-data.ts';
export { protocolError } from './errors.ts';
export * from './message.ts';
export * from './sge.ts';
