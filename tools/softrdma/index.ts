/**
 * `node-rdma/softrdma`: machines with RDMA devices, without hardware, root or kernel modules.
 *
 * @example
 * ```ts
 * import { machines } from 'node-rdma/softrdma';
 *
 * const [a, b] = await machines(2);
 * const server = a.spawn('rping', ['-s', '-a', a.addresses.rxe0, '-C', '10']);
 * const client = await b.run('rping', ['-c', '-a', a.addresses.rxe0, '-C', '10']);
 * await b.kill(); // a real death: no goodbye on the wire
 * await b.restart();
 * await a.close();
 * await b.close();
 * ```
 */
export type { RunCommandOptions, RunResult } from './collect.ts';
export { SoftRdmaError, type SoftRdmaErrorCode } from './errors.ts';
export type { Addresses } from './guest-config.ts';
export type { DeviceName, LinkDisturbance, LinkFault } from './link.ts';
export type { Machine, MachineOptions, SpawnOptions } from './machine.ts';
export { machines } from './machines.ts';
export type { ExitResult, GuestProcess } from './process.ts';
export type { TerminalSize } from './protocol.ts';
