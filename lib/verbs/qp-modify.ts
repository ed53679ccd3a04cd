/** Changes of state: what is wrong with one is said before the kernel sees it. */
import type { NativeQpAttr } from '../addon.ts';
import { invalidArgument, RdmaError } from '../errors.ts';
import type { Device } from './device.ts';
import { attrMask, attrNames, encodeAttr, type QpAttr, type QpAttrName, stateNumber } from './qp-attr.ts';
import type { QpType } from './qp-create.ts';
import { allowedTargets, type QpKnownState, transitionAttrs } from './qp-state.ts';

/** The queue pair that is to change. @internal */
export interface ModifyTarget {
  readonly device: Device;
  readonly type: QpType;
  readonly qpNum: number;
  readonly state: QpKnownState;
  /** Its port; 0 when it has none yet. */
  readonly port: number;
}

function stateError(target: ModifyTarget, message: string): RdmaError {
  return new RdmaError('ERR_RDMA_STATE', `ibv_modify_qp: ${message}`, {
    syscall: 'ibv_modify_qp',
    qpNum: target.qpNum,
    device: target.device.name,
  });
}

/**
 * rdma_cm makes the TCP stream that an iWARP queue pair needs, so it alone can bring one up; and after an error there is
 * no way back (RFC 5044; rdma_connect(3)).
 */
function checkIwarp(target: ModifyTarget, to: QpKnownState): void {
  if (target.device.transport !== 'iwarp' || to === 'ERR' || (to === target.state && to !== 'RESET')) return;
  if (to === 'INIT' && target.state === 'RESET') return;
  throw new RdmaError(
    'EOPNOTSUPP',
    `ibv_modify_qp: ${target.device.name} is an iWARP device: only rdma_cm connects its queue pairs (id.createQp, id.connect), so ${target.state} → ${to} can not be asked for; ERR can`,
    { syscall: 'ibv_modify_qp', qpNum: target.qpNum, device: target.device.name },
  );
}

function list(names: readonly string[]): string {
  return names.length === 0 ? 'none' : names.join(', ');
}

function checkAttrs(target: ModifyTarget, to: QpKnownState, names: readonly QpAttrName[]): void {
  const { type, state: from } = target;
  const attrs = transitionAttrs(type, from, to);
  const step = `${type} ${from} → ${to}`;
  if (attrs === undefined) {
    throw stateError(
      target,
      `${step} is not a transition: from ${from} there are ${list(allowedTargets(from))}`,
    );
  }
  const given: readonly QpAttrName[] = names.filter((name) => name !== 'state');
  const missing = attrs.required.filter((name) => !given.includes(name));
  if (missing.length > 0) {
    throw invalidArgument(
      'ERR_INVALID_ARG_VALUE',
      `ibv_modify_qp: ${step} lacks ${list(missing)}; it needs ${list(attrs.required)}`,
    );
  }
  const surplus = given.filter((name) => !attrs.required.includes(name) && !attrs.optional.includes(name));
  if (surplus.length > 0) {
    throw invalidArgument(
      'ERR_INVALID_ARG_VALUE',
      `ibv_modify_qp: ${step} does not take ${list(surplus)}; it takes ${list([...attrs.required, ...attrs.optional])}`,
    );
  }
}

/**
 * Checks a change and encodes it.
 *
 * @throws RdmaError ERR_RDMA_STATE for an impossible transition, ERR_INVALID_ARG_VALUE for a missing or surplus attribute,
 *   ERR_OUT_OF_RANGE for a value; EOPNOTSUPP on iWARP
 * @internal
 */
export function planModify(target: ModifyTarget, attr: QpAttr): { attr: NativeQpAttr; mask: number } {
  const names = attrNames(attr);
  if (attr.state !== undefined) stateNumber('state', attr.state);
  const to = attr.state ?? target.state;
  if (attr.curState !== undefined && attr.curState !== target.state) {
    throw stateError(target, `curState is ${attr.curState}, but the queue pair is in ${target.state}`);
  }
  checkIwarp(target, to);
  checkAttrs(target, to, names);
  const native = encodeAttr(attr, target.device, attr.port ?? (target.port || 1));
  if (to === 'RTR' && native.ahAttr !== undefined && native.ahAttr.port !== target.port) {
    throw invalidArgument(
      'ERR_INVALID_ARG_VALUE',
      `ahAttr.port is ${native.ahAttr.port}, but the queue pair was given port ${target.port} on its way to INIT`,
    );
  }
  return { attr: native, mask: attrMask(names) };
}
