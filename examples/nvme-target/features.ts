/** Set Features and Get Features: NVMe Base Specification, 5.27. */
import type { Controller } from './controller.ts';
import { type Reply, type Request, SUCCESS } from './request.ts';
import { AdminOpcode, type Command } from './wire/command.ts';
import { AsyncEvents, KEEP_ALIVE_GRANULARITY } from './wire/identify.ts';
import { NvmeError, Status } from './wire/status.ts';

export const Feature = {
  ARBITRATION: 0x01,
  POWER_MANAGEMENT: 0x02,
  ERROR_RECOVERY: 0x05,
  VOLATILE_WRITE_CACHE: 0x06,
  NUMBER_OF_QUEUES: 0x07,
  WRITE_ATOMICITY: 0x0a,
  ASYNC_EVENT_CONFIG: 0x0b,
  KEEP_ALIVE_TIMER: 0x0f,
  HOST_IDENTIFIER: 0x81,
} as const;

const SAVE = 0x8000_0000;
/** Get Features: current, default, saved or supported values. */
const SUPPORTED_CAPABILITIES = 3;
const CHANGEABLE = 1 << 2;
const HOST_ID_BYTES = 16;
const GRANULE_MS = KEEP_ALIVE_GRANULARITY * 100;

export function executeFeatures(controller: Controller, request: Request): Reply {
  const { command } = request;
  const feature = command.u8(40);
  const io = controller.subsystem !== undefined;
  if (!io && feature !== Feature.ASYNC_EVENT_CONFIG && feature !== Feature.KEEP_ALIVE_TIMER) {
    throw unknown(feature);
  }
  return command.opcode === AdminOpcode.SET_FEATURES
    ? set(controller, feature, request)
    : get(controller, feature, request);
}

function unknown(feature: number): NvmeError {
  return new NvmeError(Status.INVALID_FIELD, `feature 0x${feature.toString(16)}`);
}

function set(controller: Controller, feature: number, request: Request): Reply {
  const { command } = request;
  const value = command.dword(11);
  if ((command.dword(10) & SAVE) !== 0) {
    throw new NvmeError(Status.FEATURE_NOT_SAVEABLE, `feature 0x${feature.toString(16)}`);
  }
  switch (feature) {
    case Feature.NUMBER_OF_QUEUES:
      request.expect(0);
      return { result: queues(controller, command) };
    case Feature.ASYNC_EVENT_CONFIG:
      request.expect(0);
      controller.asyncEventConfig = value & (AsyncEvents.NAMESPACE | AsyncEvents.DISCOVERY);
      return SUCCESS;
    case Feature.KEEP_ALIVE_TIMER:
      request.expect(0);
      controller.keepAlive = Math.ceil(value / GRANULE_MS) * GRANULE_MS;
      return SUCCESS;
    case Feature.HOST_IDENTIFIER:
      throw new NvmeError(Status.COMMAND_SEQUENCE_ERROR, 'the host identifier comes with Connect');
    case Feature.ARBITRATION:
    case Feature.POWER_MANAGEMENT:
    case Feature.ERROR_RECOVERY:
    case Feature.VOLATILE_WRITE_CACHE:
    case Feature.WRITE_ATOMICITY:
      throw new NvmeError(Status.FEATURE_NOT_CHANGEABLE, `feature 0x${feature.toString(16)}`);
    default:
      throw unknown(feature);
  }
}

/** What is granted, counted from 0: submission queues, and completion queues in the high half. */
function queues(controller: Controller, command: Command): number {
  const asked = Math.max(command.u16(44), command.u16(46));
  if (asked === 0xffff) throw new NvmeError(Status.INVALID_FIELD, '65536 queues');
  return granted(controller);
}

function granted({ maxIoQueues }: Controller): number {
  return (maxIoQueues - 1) | ((maxIoQueues - 1) << 16);
}

function get(controller: Controller, feature: number, request: Request): Reply {
  const { command } = request;
  const select = command.u8(41) & 7;
  if (feature === Feature.HOST_IDENTIFIER) {
    if ((command.dword(11) & 1) === 0) {
      throw new NvmeError(Status.INVALID_FIELD, 'host identifiers have 128 bits here');
    }
    request.expect(HOST_ID_BYTES);
    return { data: new Uint8Array(Buffer.from(controller.hostId, 'hex')) };
  }
  request.expect(0);
  if (select === SUPPORTED_CAPABILITIES) return { result: changeable(feature) ? CHANGEABLE : 0 };
  switch (feature) {
    case Feature.NUMBER_OF_QUEUES:
      return { result: granted(controller) };
    case Feature.ASYNC_EVENT_CONFIG:
      return { result: controller.asyncEventConfig };
    case Feature.KEEP_ALIVE_TIMER:
      return { result: controller.keepAlive };
    case Feature.VOLATILE_WRITE_CACHE:
      return { result: controller.subsystem?.volatileCache === true ? 1 : 0 };
    case Feature.ARBITRATION:
    case Feature.POWER_MANAGEMENT:
    case Feature.ERROR_RECOVERY:
    case Feature.WRITE_ATOMICITY:
      return { result: 0 };
    default:
      throw unknown(feature);
  }
}

function changeable(feature: number): boolean {
  return (
    feature === Feature.NUMBER_OF_QUEUES ||
    feature === Feature.ASYNC_EVENT_CONFIG ||
    feature === Feature.KEEP_ALIVE_TIMER
  );
}
