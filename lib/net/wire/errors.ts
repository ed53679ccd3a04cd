import { RdmaError } from '../../errors.ts';

/** The error of a peer that does not keep to the protocol; the connection is reset. @internal */
export function protocolError(text: string): RdmaError {
  return new RdmaError('EPROTO', `rsocket: ${text}: the connection is reset`);
}
