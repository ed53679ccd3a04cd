/** Status codes: NVMe Base Specification, 3.3.3.2; NVMe over Fabrics, 3.3. */

/** Status code type in bits 10:8, status code in bits 7:0. */
export const Status = {
  SUCCESS: 0x000,
  INVALID_OPCODE: 0x001,
  INVALID_FIELD: 0x002,
  DATA_TRANSFER_ERROR: 0x004,
  INTERNAL: 0x006,
  ABORT_REQUESTED: 0x007,
  INVALID_NAMESPACE: 0x00b,
  COMMAND_SEQUENCE_ERROR: 0x00c,
  SGL_LENGTH_INVALID: 0x00f,
  SGL_TYPE_INVALID: 0x011,
  SGL_OFFSET_INVALID: 0x016,
  KEEP_ALIVE_TIMEOUT_INVALID: 0x01a,
  LBA_OUT_OF_RANGE: 0x080,
  ASYNC_EVENT_LIMIT: 0x105,
  INVALID_LOG_PAGE: 0x109,
  FEATURE_NOT_SAVEABLE: 0x10d,
  FEATURE_NOT_CHANGEABLE: 0x10e,
  CONNECT_INCOMPATIBLE_FORMAT: 0x180,
  CONNECT_CONTROLLER_BUSY: 0x181,
  CONNECT_INVALID_PARAMETERS: 0x182,
  CONNECT_INVALID_HOST: 0x184,
  WRITE_FAULT: 0x280,
  READ_ERROR: 0x281,
} as const;

/** Set with every status that a retry would not change. */
export const DO_NOT_RETRY = 0x4000;

const names = Object.fromEntries(Object.entries(Status).map(([name, value]) => [value, name]));

/** Ends a command with a status. */
export class NvmeError extends Error {
  /** What goes into the completion, DO_NOT_RETRY included. */
  readonly status: number;
  /** For the completion's first dword. */
  readonly result: number;

  constructor(status: number, text: string, options: { retry?: boolean; result?: number } = {}) {
    super(`${statusName(status)}: ${text}`);
    this.status = options.retry === true ? status : status | DO_NOT_RETRY;
    this.result = options.result ?? 0;
  }
}

/** The name of a status, with or without DO_NOT_RETRY. */
export function statusName(status: number): string {
  const code = status & 0x7ff;
  return names[code] ?? `status 0x${code.toString(16)}`;
}
