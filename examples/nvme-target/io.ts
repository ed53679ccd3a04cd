/** I/O commands: NVM Command Set Specification, 3. */
import { MAX_TRANSFER_BYTES } from './admin.ts';
import type { Counters } from './counters.ts';
import type { Namespace } from './namespace.ts';
import { type Reply, type Request, SUCCESS } from './request.ts';
import type { Registry, Subsystem } from './subsystem.ts';
import { type Command, IoOpcode } from './wire/command.ts';
import { NvmeError, Status } from './wire/status.ts';

const ALL_NAMESPACES = 0xffff_ffff;
const RANGE_BYTES = 16;
const DEALLOCATE = 1 << 2;
const FORCE_UNIT_ACCESS = 1 << 30;

export function executeIo(
  registry: Registry,
  subsystem: Subsystem,
  request: Request,
): Reply | Promise<Reply> {
  const { command } = request;
  const { counters } = registry;
  if (command.opcode === IoOpcode.FLUSH) return flush(subsystem, counters, request);
  const namespace = subsystem.namespaces.get(command.nsid);
  switch (command.opcode) {
    case IoOpcode.READ:
      return read(present(namespace, command), counters, request);
    case IoOpcode.WRITE:
      return write(present(namespace, command), counters, request);
    case IoOpcode.WRITE_ZEROES:
      return writeZeroes(present(namespace, command), counters, request);
    case IoOpcode.DATASET_MANAGEMENT:
      return manage(present(namespace, command), counters, request);
    default:
      throw new NvmeError(Status.INVALID_OPCODE, `I/O opcode 0x${command.opcode.toString(16)}`);
  }
}

function present(namespace: Namespace | undefined, { nsid }: Command): Namespace {
  if (namespace === undefined) throw new NvmeError(Status.INVALID_NAMESPACE, `namespace ${nsid}`);
  return namespace;
}

/** Carries out [action] on the backend; its failure is one of the medium. */
async function onMedium<T>(counters: Counters, status: number, action: () => T | Promise<T>): Promise<T> {
  try {
    return await action();
  } catch (error) {
    counters.mediaErrors++;
    throw new NvmeError(status, (error as Error).message, { retry: true });
  }
}

/** Bytes of a read or write. */
function transferBytes({ blockBytes }: Namespace, command: Command): number {
  const bytes = (command.u16(48) + 1) * blockBytes;
  if (bytes > MAX_TRANSFER_BYTES) {
    throw new NvmeError(Status.INVALID_FIELD, `${bytes} bytes; a command transfers ${MAX_TRANSFER_BYTES}`);
  }
  return bytes;
}

function read(namespace: Namespace, counters: Counters, request: Request): Reply | Promise<Reply> {
  const { command } = request;
  const { backend } = namespace;
  const bytes = transferBytes(namespace, command);
  const offset = namespace.offsetOf(command.slba, bytes / namespace.blockBytes);
  request.expect(bytes);
  counters.reads++;
  counters.bytesRead += bytes;
  if (backend.views !== undefined) return { data: backend.views(offset, bytes), inPlace: true };
  return readThrough(namespace, counters, request, offset, bytes);
}

async function readThrough(
  { backend }: Namespace,
  counters: Counters,
  request: Request,
  offset: number,
  bytes: number,
): Promise<Reply> {
  const buffer = await request.alloc(bytes);
  try {
    await onMedium(counters, Status.READ_ERROR, () => backend.read(offset, buffer.bytes));
  } catch (error) {
    buffer.release();
    throw error;
  }
  return { data: buffer.bytes, release: buffer.release };
}

async function write(namespace: Namespace, counters: Counters, request: Request): Promise<Reply> {
  const { command } = request;
  const { backend } = namespace;
  const bytes = transferBytes(namespace, command);
  const offset = namespace.offsetOf(command.slba, bytes / namespace.blockBytes);
  request.expect(bytes);
  const throughCache = (command.dword(12) & FORCE_UNIT_ACCESS) !== 0;
  counters.writes++;
  counters.bytesWritten += bytes;
  if (backend.views !== undefined) {
    await request.takeInto(backend.views(offset, bytes));
  } else {
    const data = await request.take(bytes);
    try {
      await onMedium(counters, Status.WRITE_FAULT, () => backend.write(offset, data.bytes));
    } finally {
      data.release();
    }
  }
  if (throughCache) await onMedium(counters, Status.WRITE_FAULT, () => backend.flush());
  return SUCCESS;
}

async function flush({ namespaces }: Subsystem, counters: Counters, request: Request): Promise<Reply> {
  const { command } = request;
  request.expect(0);
  const { nsid } = command;
  const flushed =
    nsid === ALL_NAMESPACES ? [...namespaces.values()] : [present(namespaces.get(nsid), command)];
  counters.flushes++;
  for (const { backend } of flushed) {
    await onMedium(counters, Status.WRITE_FAULT, () => backend.flush());
  }
  return SUCCESS;
}

async function writeZeroes(namespace: Namespace, counters: Counters, request: Request): Promise<Reply> {
  const { command } = request;
  const { backend, blockBytes } = namespace;
  request.expect(0);
  const count = command.u16(48) + 1;
  const offset = namespace.offsetOf(command.slba, count);
  counters.writes++;
  await onMedium(counters, Status.WRITE_FAULT, () => backend.zero(offset, count * blockBytes));
  if ((command.dword(12) & FORCE_UNIT_ACCESS) !== 0) {
    await onMedium(counters, Status.WRITE_FAULT, () => backend.flush());
  }
  return SUCCESS;
}

async function manage(namespace: Namespace, counters: Counters, request: Request): Promise<Reply> {
  const { command } = request;
  const { backend, blockBytes } = namespace;
  const count = command.u8(40) + 1;
  // Linux always describes the most ranges there can be.
  request.expectAtLeast(count * RANGE_BYTES);
  const data = await request.take(count * RANGE_BYTES);
  const ranges: { offset: number; bytes: number }[] = [];
  try {
    const view = new DataView(data.bytes.buffer, data.bytes.byteOffset, count * RANGE_BYTES);
    // All are checked before any is carried out.
    for (let at = 0; at < count * RANGE_BYTES; at += RANGE_BYTES) {
      const blocks = view.getUint32(at + 4, true);
      const offset = namespace.offsetOf(Number(view.getBigUint64(at + 8, true)), blocks);
      ranges.push({ offset, bytes: blocks * blockBytes });
    }
  } finally {
    data.release();
  }
  if ((command.dword(11) & DEALLOCATE) === 0) return SUCCESS;
  for (const { offset, bytes } of ranges) {
    await onMedium(counters, Status.WRITE_FAULT, () => backend.discard(offset, bytes));
  }
  return SUCCESS;
}
