/** What can go wrong with a soft-RDMA machine, by `code`. */
export type SoftRdmaErrorCode =
  /** This host cannot run the kernel: not x86-64 Linux. */
  | 'ERR_SOFTRDMA_HOST'
  /** Programs needed to build the kernel or the helper are missing. */
  | 'ERR_SOFTRDMA_TOOLS'
  /** The kernel's source could not be had from anywhere. */
  | 'ERR_SOFTRDMA_SOURCE'
  /** The source was there but did not build. */
  | 'ERR_SOFTRDMA_BUILD'
  /** The machine did not come up. */
  | 'ERR_SOFTRDMA_BOOT'
  /** The machine went down, or is down, while something was wanted from it. */
  | 'ERR_SOFTRDMA_DOWN'
  /** The command could not be started in the machine: no such program, no such directory. */
  | 'ERR_SOFTRDMA_SPAWN'
  /** A bad argument. */
  | 'ERR_SOFTRDMA_ARGUMENT';

/** Every error that softrdma itself raises. The message says what is wrong and what to do about it. */
export class SoftRdmaError extends Error {
  override readonly name = 'SoftRdmaError';
  /** Stable name of the kind of error. */
  readonly code: SoftRdmaErrorCode;
  /** For `ERR_SOFTRDMA_SPAWN`: the guest's errno, such as 2 for ENOENT. */
  readonly errno: number | undefined;

  constructor(code: SoftRdmaErrorCode, message: string, options: { cause?: unknown; errno?: number } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.errno = options.errno;
  }
}
