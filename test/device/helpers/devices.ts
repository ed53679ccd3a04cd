/** The soft devices of the machine that device tests run on (tools/softrdma). */

/** A device and the address of its netdev. */
export interface TestDevice {
  readonly name: 'rxe0' | 'siw0';
  readonly host: string;
}

export const devices: readonly TestDevice[] = [
  { name: 'rxe0', host: process.env.RDMA_RXE_ADDR ?? '10.0.1.1' },
  { name: 'siw0', host: process.env.RDMA_SIW_ADDR ?? '10.0.2.1' },
];
