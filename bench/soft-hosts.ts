/** Addresses of the soft devices' ports. */
export const softHosts: Readonly<Record<string, string>> = {
  rxe0: process.env.RDMA_RXE_ADDR ?? '10.0.1.1',
  siw0: process.env.RDMA_SIW_ADDR ?? '10.0.2.1',
};
