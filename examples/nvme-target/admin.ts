/** Admin commands: NVMe Base Specification, 5. */
import type { Controller } from './controller.ts';
import { ASYNC_EVENT_LIMIT, ERROR_LOG_ENTRIES } from './controller.ts';
import { executeFeatures } from './features.ts';
import { type Reply, type Request, SUCCESS } from './request.ts';
import { MAX_NAMESPACES, type Registry } from './subsystem.ts';
import { AdminOpcode, type Command } from './wire/command.ts';
import {
  Cns,
  encodeController,
  encodeNamespace,
  encodeNamespaceDescriptors,
  encodeNamespaceList,
  IDENTIFY_BYTES,
  namespaceGuid,
  namespaceUuid,
} from './wire/identify.ts';
import {
  encodeChangedNamespaces,
  encodeCommandsSupported,
  encodeErrorLog,
  encodeHealth,
  LogPage,
} from './wire/logs.ts';
import { NvmeError, Status } from './wire/status.ts';

/** The longest transfer of a command is 2 to this power times 4096 bytes: 1 MiB. */
const MDTS = 8;
export const MAX_TRANSFER_BYTES = 4096 << MDTS;
const ABORT_LIMIT = 4;
const ALL_NAMESPACES = 0xffff_ffff;

export function executeAdmin(
  registry: Registry,
  controller: Controller,
  request: Request,
): Reply | Promise<Reply> {
  const { command } = request;
  const { opcode } = command;
  const allowedUnready = opcode === AdminOpcode.KEEP_ALIVE;
  if (!controller.ready && !allowedUnready) {
    throw new NvmeError(Status.COMMAND_SEQUENCE_ERROR, 'the controller is not enabled');
  }
  switch (opcode) {
    case AdminOpcode.IDENTIFY:
      return identify(registry, controller, request);
    case AdminOpcode.GET_LOG_PAGE:
      return getLogPage(registry, controller, request);
    case AdminOpcode.SET_FEATURES:
    case AdminOpcode.GET_FEATURES:
      return executeFeatures(controller, request);
    case AdminOpcode.KEEP_ALIVE:
      request.expect(0);
      return SUCCESS;
    case AdminOpcode.ASYNC_EVENT_REQUEST:
      request.expect(0);
      return controller.holdEventRequest(command.id);
    case AdminOpcode.ABORT: {
      request.expect(0);
      const [sqid, id] = [command.u16(40), command.u16(42)];
      return { result: controller.abort(sqid, id) ? 0 : 1 };
    }
    default:
      throw new NvmeError(Status.INVALID_OPCODE, `admin opcode 0x${opcode.toString(16)}`);
  }
}

function identify(registry: Registry, controller: Controller, request: Request): Reply {
  request.expect(IDENTIFY_BYTES);
  return { data: identity(registry, controller, request.command) };
}

function identity(registry: Registry, controller: Controller, command: Command): Uint8Array {
  const cns = command.u8(40);
  const { nsid } = command;
  const { subsystem } = controller;
  if (cns === Cns.CONTROLLER) {
    return encodeController({
      kind: subsystem === undefined ? 'discovery' : 'io',
      cntlid: controller.cntlid,
      nqn: controller.nqn,
      depth: registry.limits.depth,
      inCapsule: registry.limits.inCapsule,
      mdts: MDTS,
      namespaces: MAX_NAMESPACES,
      abortLimit: ABORT_LIMIT,
      asyncEvents: ASYNC_EVENT_LIMIT,
      errorLogEntries: ERROR_LOG_ENTRIES,
      volatileCache: subsystem?.volatileCache === true,
    });
  }
  if (subsystem === undefined) throw new NvmeError(Status.INVALID_FIELD, `CNS 0x${cns.toString(16)}`);
  switch (cns) {
    case Cns.ACTIVE_NAMESPACES: {
      if (nsid >= ALL_NAMESPACES - 1) throw new NvmeError(Status.INVALID_NAMESPACE, `namespace ${nsid}`);
      const nsids = [...subsystem.namespaces.keys()].sort((a, b) => a - b);
      return encodeNamespaceList(nsids, nsid);
    }
    case Cns.NAMESPACE: {
      const namespace = subsystem.namespaces.get(nsid);
      if (nsid === 0 || nsid > MAX_NAMESPACES) {
        throw new NvmeError(Status.INVALID_NAMESPACE, `namespace ${nsid}`);
      }
      // An identifier without a namespace is no error: all its fields are 0.
      if (namespace === undefined) return new Uint8Array(IDENTIFY_BYTES);
      const { blocks, blockBytes, backend } = namespace;
      const guid = namespaceGuid(subsystem.nqn, nsid);
      return encodeNamespace({ blocks, blockBytes, guid, readsZeros: backend.discardsToZeros });
    }
    case Cns.NAMESPACE_DESCRIPTORS:
      if (!subsystem.namespaces.has(nsid)) {
        throw new NvmeError(Status.INVALID_NAMESPACE, `namespace ${nsid}`);
      }
      return encodeNamespaceDescriptors(
        namespaceGuid(subsystem.nqn, nsid),
        namespaceUuid(subsystem.nqn, nsid),
      );
    default:
      throw new NvmeError(Status.INVALID_FIELD, `CNS 0x${cns.toString(16)}`);
  }
}

function getLogPage(registry: Registry, controller: Controller, request: Request): Reply {
  const { command } = request;
  const dwords = command.u16(42) + command.u16(44) * 0x1_0000 + 1;
  const bytes = dwords * 4;
  const offset = command.u64(48);
  const retain = (command.u8(41) & 0x80) !== 0;
  if (bytes > MAX_TRANSFER_BYTES) throw new NvmeError(Status.INVALID_FIELD, `${bytes} bytes of a log page`);
  if (offset % 4 !== 0) throw new NvmeError(Status.INVALID_FIELD, `log page offset ${offset}`);
  const page = command.u8(40);
  request.expect(bytes);
  const log = logPage(registry, controller, page);
  if (offset > log.length) throw new NvmeError(Status.INVALID_FIELD, `offset ${offset} of ${log.length}`);
  if (!retain) rearm(controller, page);
  const data = new Uint8Array(bytes);
  data.set(log.subarray(offset, offset + bytes));
  return { data };
}

/** An event is reported again only after its log page has been read. */
function rearm(controller: Controller, page: number): void {
  if (page === LogPage.DISCOVERY) controller.rearm('discovery');
  if (page !== LogPage.CHANGED_NAMESPACES) return;
  controller.changedNamespaces.clear();
  controller.rearm('namespaces');
}

function logPage(registry: Registry, controller: Controller, page: number): Uint8Array {
  const io = controller.subsystem !== undefined;
  if (page === LogPage.ERROR) return encodeErrorLog(controller.errors, ERROR_LOG_ENTRIES);
  if (page === LogPage.COMMANDS_SUPPORTED) return encodeCommandsSupported(io);
  if (page === LogPage.DISCOVERY && !io) return registry.discoveryLog(controller.hostNqn);
  if (page === LogPage.SMART && io) return health(registry, controller);
  if (page === LogPage.CHANGED_NAMESPACES && io) {
    return encodeChangedNamespaces([...controller.changedNamespaces].sort((a, b) => a - b));
  }
  throw new NvmeError(Status.INVALID_LOG_PAGE, `log page 0x${page.toString(16)}`);
}

const MINUTE_MS = 60_000;

function health(registry: Registry, controller: Controller): Uint8Array {
  const { counters } = registry;
  const age = Date.now() - controller.started;
  return encodeHealth({
    bytesRead: counters.bytesRead,
    bytesWritten: counters.bytesWritten,
    reads: counters.reads,
    writes: counters.writes,
    busyMinutes: Math.floor(age / MINUTE_MS),
    powerOnHours: Math.floor(age / MINUTE_MS / 60),
    mediaErrors: counters.mediaErrors,
    errorEntries: controller.errorCount,
  });
}
