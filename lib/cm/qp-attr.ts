/** rdma_init_qp_attr(3). */
import { addon, type NativeQpAttr } from '../addon.ts';
import { invalidArgument, RdmaError } from '../errors.ts';
import { qpStates } from '../verbs/constants.ts';
import { pathMigStates, type QpAttr } from '../verbs/qp-attr.ts';
import type { IdCore } from './id-core.ts';
import { minRnrTimerOf } from './params.ts';

/** States that a queue pair of an id goes through. */
export type CmQpState = 'INIT' | 'RTR' | 'RTS';

/** @internal */
export function initQpAttr(
  core: IdCore,
  state: CmQpState,
  options: { readonly minRnrTimer?: number },
): QpAttr {
  if (!['INIT', 'RTR', 'RTS'].includes(state)) {
    throw invalidArgument(
      'ERR_INVALID_ARG_VALUE',
      `state must be INIT, RTR or RTS, not ${String(state)}: rdma_cm knows attributes for these`,
    );
  }
  const minRnrTimer = minRnrTimerOf(options);
  const handle = core.open();
  core.attr('rdma_init_qp_attr');
  if (core.state === 'listening') {
    throw new RdmaError(
      'ERR_RDMA_STATE',
      'rdma_init_qp_attr: not possible while the connection id is listening',
      { syscall: 'rdma_init_qp_attr' },
    );
  }
  const iwarp = core.device?.transport === 'iwarp';
  return { ...decode(addon.initQpAttr(handle, qpStates.indexOf(state)), minRnrTimer, iwarp), state };
}

/** iWARP has no partition keys; {@link QueuePair.modify} asks for one all the same. */
function decode(native: NativeQpAttr, minRnrTimer: number, iwarp: boolean): QpAttr {
  const { pathMtu, pathMigState, state: _state, enSqdAsyncNotify: _notify, curState: _cur, ...attr } = native;
  return {
    ...attr,
    ...(pathMtu === undefined ? {} : { pathMtu: 128 << pathMtu }),
    ...(pathMigState === undefined ? {} : { pathMigState: pathMigStates[pathMigState] ?? 'MIGRATED' }),
    ...(attr.minRnrTimer === undefined ? {} : { minRnrTimer }),
    ...(iwarp ? { pkeyIndex: 0 } : {}),
  };
}
