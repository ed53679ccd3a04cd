/**
 * Messages of rsockets: 32 bits, the upper three of which say what the others mean. They come as immediate data of an RDMA
 * WRITE, or where a device has none (iWARP) as a SEND of 4 bytes after it (librdmacm docs/rsocket, "Message Format").
 */
import { protocolError } from './errors.ts';

/** Types of messages. */
export const MessageType = {
  /** Bytes have been written to the next receive buffer: how many. */
  DATA: 0,
  /** Credits, as the sequence number of the first message that may not be sent; perhaps a new entry in the target SGL. */
  SGL: 4,
  /** An entry of the iomap has been written: its index. */
  IOMAP: 6,
  /** One of {@link Control}. */
  CTRL: 7,
} as const;

/** Control messages. */
export const Control = {
  /** The peer neither sends nor receives any more. */
  DISCONNECT: 0,
  KEEPALIVE: 1,
  /** The peer sends no more. */
  SHUTDOWN: 2,
} as const;

/** Bytes of a message in the form of a SEND. */
export const MESSAGE_BYTES = 4;

/** Longest transfer that a message can name. */
export const MAX_TRANSFER = 0x1fff_ffff;

const TYPE_SHIFT = 29;

/** The message of [type] about [value]. */
export function message(type: number, value: number): number {
  return ((type << TYPE_SHIFT) | value) >>> 0;
}

/** Type of a message: 0 … 7. */
export function kindOf(msg: number): number {
  return msg >>> TYPE_SHIFT;
}

/** What a message is about: 29 bits. */
export function contentOf(msg: number): number {
  return msg & MAX_TRANSFER;
}

/**
 * Throws unless [msg] is of a known type with a value that the type allows; what the connection allows is checked by
 * those who keep its state.
 *
 * @param iomapEntries of this side
 * @throws RdmaError EPROTO
 */
export function checkMessage(msg: number, iomapEntries: number): void {
  const type = kindOf(msg);
  const value = contentOf(msg);
  switch (type) {
    case MessageType.DATA:
      if (value === 0) throw protocolError('a transfer of 0 bytes');
      return;
    case MessageType.SGL:
      // The sum of two 16-bit numbers, of which the lower 16 bits count.
      if (value > 0x1_ffff) throw protocolError(`credits up to message ${value}`);
      return;
    case MessageType.IOMAP:
      if (value >= iomapEntries) {
        throw protocolError(`iomap entry ${value} was written, of ${iomapEntries} entries`);
      }
      return;
    case MessageType.CTRL:
      if (value > Control.SHUTDOWN) throw protocolError(`unknown control message ${value}`);
      return;
    default:
      throw protocolError(`message 0x${msg.toString(16)} of the unknown type ${type}`);
  }
}
