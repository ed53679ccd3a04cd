/** Errors as users of net.Socket know them. */
import { RdmaError, WcStatus } from '../errors.ts';

/** What the end of a connection by [error] is called. @internal */
export function connectionError(error: RdmaError): RdmaError {
  const { wcStatus } = error;
  if (wcStatus === undefined) {
    return error.code === 'ECONNRESET' ? resetError(error) : error;
  }
  const timedOut = wcStatus === WcStatus.RETRY_EXC_ERR || wcStatus === WcStatus.RNR_RETRY_EXC_ERR;
  if (!timedOut) return resetError(error);
  return new RdmaError('ETIMEDOUT', 'write ETIMEDOUT: the peer did not answer', {
    errno: -110,
    syscall: 'write',
    wcStatus,
    cause: error,
  });
}

function resetError(cause: RdmaError): RdmaError {
  const { wcStatus } = cause;
  return new RdmaError('ECONNRESET', 'read ECONNRESET: the peer broke the connection', {
    errno: -104,
    syscall: 'read',
    wcStatus,
    cause,
  });
}

/** The error of writing to a peer that does not receive any more. @internal */
export function brokenPipe(): RdmaError {
  return new RdmaError('EPIPE', 'write EPIPE: the peer has closed the connection', {
    errno: -32,
    syscall: 'write',
  });
}
