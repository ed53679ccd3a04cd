/** Private data of the RDMA transport's connection requests: NVMe RDMA Transport Specification, 3.2 (connections). */

/** Why a connection is rejected. */
export const RejectReason = {
  INVALID_LENGTH: 1,
  INVALID_FORMAT: 2,
  INVALID_QID: 3,
  INVALID_HSQSIZE: 4,
  INVALID_HRQSIZE: 5,
  NO_RESOURCES: 6,
} as const;

const REQUEST_BYTES = 32;

/** What the host asks for. */
export interface QueueRequest {
  /** 0 is an admin queue. */
  readonly qid: number;
  /** Receives of the host, and so responses in flight. */
  readonly hrqSize: number;
  /** Commands in flight. */
  readonly hsqSize: number;
}

/** @returns the request, or one of {@link RejectReason} */
export function decodeQueueRequest(data: Uint8Array): QueueRequest | number {
  if (data.length < REQUEST_BYTES) return RejectReason.INVALID_LENGTH;
  const view = new DataView(data.buffer, data.byteOffset, data.length);
  if (view.getUint16(0, true) !== 0) return RejectReason.INVALID_FORMAT;
  const [qid, hrqSize, hsqSize] = [2, 4, 6].map((offset) => view.getUint16(offset, true));
  return { qid: qid!, hrqSize: hrqSize!, hsqSize: hsqSize! };
}

/** The answer to a request that is taken; [crqSize] is the number of receives of this side. */
export function encodeQueueReply(crqSize: number): Uint8Array {
  const bytes = new Uint8Array(32);
  new DataView(bytes.buffer).setUint16(2, crqSize, true);
  return bytes;
}

export function encodeQueueReject(reason: number): Uint8Array {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint16(2, reason, true);
  return bytes;
}
