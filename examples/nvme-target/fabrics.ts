/** Fabrics commands: Connect, Property Get, Property Set (NVMe Base Specification, 6). */
import { type Reply, type Request, SUCCESS } from './request.ts';
import { ADMIN_DEPTH, type Registry, type Subsystem } from './subsystem.ts';
import { FabricsType } from './wire/command.ts';
import {
  CONNECT_DATA_BYTES,
  type ConnectRequest,
  DISCOVERY_NQN,
  DYNAMIC_CONTROLLER,
  decodeConnect,
  invalidParameter,
} from './wire/connect.ts';
import { NvmeError, Status } from './wire/status.ts';

export function executeFabrics(registry: Registry, request: Request): Reply | Promise<Reply> {
  const { command, queue } = request;
  const type = command.fabricsType;
  if (type === FabricsType.CONNECT) return connect(registry, request);
  const { controller } = queue;
  if (controller === undefined) {
    throw new NvmeError(Status.COMMAND_SEQUENCE_ERROR, 'the first command of a queue is Connect');
  }
  if (queue.qid !== 0 || (type !== FabricsType.PROPERTY_GET && type !== FabricsType.PROPERTY_SET)) {
    throw new NvmeError(Status.INVALID_OPCODE, `fabrics command type 0x${type.toString(16)}`);
  }
  request.expect(0);
  const offset = command.dword(11);
  const bytes = (command.u8(40) & 7) === 1 ? 8 : 4;
  if (type === FabricsType.PROPERTY_GET) {
    const { low, high } = controller.property(offset, bytes);
    return { result: low, resultHigh: high };
  }
  if (bytes === 8) throw new NvmeError(Status.INVALID_FIELD, 'no property of 8 bytes can be set');
  controller.setProperty(offset, command.dword(12));
  return SUCCESS;
}

function refuse(offset: number, where: 'command' | 'data', text: string): NvmeError {
  const result = invalidParameter(offset, where);
  return new NvmeError(Status.CONNECT_INVALID_PARAMETERS, text, { result });
}

async function connect(registry: Registry, request: Request): Promise<Reply> {
  const { command, queue } = request;
  request.expect(CONNECT_DATA_BYTES);
  if (queue.controller !== undefined) {
    throw new NvmeError(Status.COMMAND_SEQUENCE_ERROR, 'the queue is connected already');
  }
  const data = await request.take(CONNECT_DATA_BYTES);
  let wanted: ConnectRequest;
  try {
    wanted = decodeConnect(command, data.bytes);
  } finally {
    data.release();
  }
  const { recordFormat, qid, sqSize, noFlowControl } = wanted;
  if (recordFormat !== 0) {
    throw new NvmeError(Status.CONNECT_INCOMPATIBLE_FORMAT, `record format ${recordFormat}`);
  }
  if (qid !== queue.qid) {
    throw refuse(42, 'command', `queue ${qid} on a connection that was made for queue ${queue.qid}`);
  }
  const most = qid === 0 ? ADMIN_DEPTH : registry.limits.depth;
  if (sqSize === 0 || sqSize >= most) throw refuse(44, 'command', `${sqSize + 1} entries, not 2 to ${most}`);
  const controller = qid === 0 ? newController(registry, wanted) : ownController(registry, wanted);
  queue.install(controller, sqSize + 1, noFlowControl);
  return { result: controller.cntlid };
}

function newController(registry: Registry, wanted: ConnectRequest) {
  const { cntlid, subsystemNqn, hostNqn, hostId, keepAlive } = wanted;
  if (cntlid !== DYNAMIC_CONTROLLER)
    throw refuse(16, 'data', `controller ${cntlid}: there are only new ones`);
  if (hostNqn === '') throw refuse(512, 'data', 'no host NQN');
  const subsystem = subsystemNqn === DISCOVERY_NQN ? undefined : allowed(registry, subsystemNqn, hostNqn);
  const controller = registry.createController(subsystem, hostNqn, hostId, keepAlive);
  if (controller === undefined) throw new NvmeError(Status.CONNECT_CONTROLLER_BUSY, 'no controller is free');
  return controller;
}

function allowed(registry: Registry, subsystemNqn: string, hostNqn: string): Subsystem {
  const subsystem = registry.subsystems.get(subsystemNqn);
  if (subsystem === undefined) throw refuse(256, 'data', `there is no subsystem ${subsystemNqn}`);
  if (!subsystem.allows(hostNqn)) {
    throw new NvmeError(Status.CONNECT_INVALID_HOST, `${hostNqn} may not connect to ${subsystemNqn}`);
  }
  return subsystem;
}

function ownController(registry: Registry, wanted: ConnectRequest) {
  const { cntlid, subsystemNqn, hostNqn, hostId, qid } = wanted;
  const controller = registry.controllers.get(cntlid);
  if (controller === undefined) throw refuse(16, 'data', `there is no controller ${cntlid}`);
  if (controller.nqn !== subsystemNqn)
    throw refuse(256, 'data', `controller ${cntlid} is of another subsystem`);
  if (controller.hostNqn !== hostNqn) throw refuse(512, 'data', `controller ${cntlid} is of another host`);
  if (controller.hostId !== hostId) throw refuse(0, 'data', `controller ${cntlid} is of another host`);
  if (controller.subsystem === undefined || qid > controller.maxIoQueues) {
    throw refuse(42, 'command', `queue ${qid}: the controller has ${controller.maxIoQueues} I/O queues`);
  }
  if (!controller.ready) throw new NvmeError(Status.COMMAND_SEQUENCE_ERROR, 'the controller is not enabled');
  if (controller.queues.has(qid)) {
    throw new NvmeError(Status.COMMAND_SEQUENCE_ERROR, `queue ${qid} is connected already`);
  }
  return controller;
}
