/**
 * The state machine of queue pairs as data: which attributes every transition needs and takes, by type (ibv_modify_qp(3);
 * InfiniBand Architecture Specification 11.2.5.2; kernel core/verbs.c, which refuses with a bare EINVAL).
 */
import type { QpAttrName } from './qp-attr.ts';
import type { QpType } from './qp-create.ts';

/** A state that a queue pair can be asked to go to. */
export type QpTargetState = 'RESET' | 'INIT' | 'RTR' | 'RTS' | 'SQD' | 'ERR';

/** A state that a queue pair can be in. */
export type QpKnownState = QpTargetState | 'SQE';

/** Attributes besides the state itself. */
export interface TransitionAttrs {
  readonly required: readonly QpAttrName[];
  readonly optional: readonly QpAttrName[];
}

type Names = readonly QpAttrName[];
type ByType = Readonly<Partial<Record<QpType, Names>>>;
interface Transition {
  readonly required?: ByType;
  readonly optional?: ByType;
}

const INIT_CONNECTED: Names = ['pkeyIndex', 'port', 'accessFlags'];
const INIT_UD: Names = ['pkeyIndex', 'port', 'qkey'];
const PATH: Names = ['ahAttr', 'pathMtu', 'destQpNum', 'rqPsn'];
const RESPONDER: Names = [...PATH, 'maxDestRdAtomic', 'minRnrTimer'];
const REQUESTER: Names = ['timeout', 'retryCnt', 'rnrRetry', 'sqPsn', 'maxRdAtomic'];
const RTR_EXTRA: Names = ['altAhAttr', 'accessFlags', 'pkeyIndex'];
const RTS_EXTRA: Names = ['curState', 'altAhAttr', 'accessFlags', 'pathMigState'];
const RTS_EXTRA_RNR: Names = [...RTS_EXTRA, 'minRnrTimer'];
const SQD_PATH: Names = ['ahAttr', 'altAhAttr', 'accessFlags', 'pkeyIndex', 'pathMigState'];

/** For all types with a send queue of messages. */
function messages(names: Names): ByType {
  return { RC: names, UC: names, UD: names, XRC_SEND: names, XRC_RECV: names };
}

const initAttrs: ByType = { ...messages(INIT_CONNECTED), UD: INIT_UD };
const rtsAttrs: ByType = {
  RC: RTS_EXTRA_RNR,
  UC: RTS_EXTRA,
  UD: ['curState', 'qkey'],
  XRC_SEND: RTS_EXTRA,
  XRC_RECV: RTS_EXTRA_RNR,
};

const RESET_AND_ERR: Readonly<Partial<Record<QpTargetState, Transition>>> = { RESET: {}, ERR: {} };

/** What is not here is impossible. */
const transitions: Readonly<Record<QpKnownState, Readonly<Partial<Record<QpKnownState, Transition>>>>> = {
  RESET: {
    RESET: {},
    INIT: { required: { ...initAttrs, RAW_PACKET: ['port'] } },
  },
  INIT: {
    ...RESET_AND_ERR,
    INIT: { optional: initAttrs },
    RTR: {
      required: { RC: RESPONDER, UC: PATH, XRC_SEND: PATH, XRC_RECV: RESPONDER },
      optional: { ...messages(RTR_EXTRA), UD: ['pkeyIndex', 'qkey'] },
    },
  },
  RTR: {
    ...RESET_AND_ERR,
    RTS: {
      required: {
        RC: REQUESTER,
        UC: ['sqPsn'],
        UD: ['sqPsn'],
        XRC_SEND: REQUESTER,
        XRC_RECV: ['timeout', 'sqPsn'],
      },
      optional: rtsAttrs,
    },
  },
  RTS: {
    ...RESET_AND_ERR,
    RTS: { optional: rtsAttrs },
    SQD: { optional: messages(['enSqdAsyncNotify']) },
  },
  SQD: {
    ...RESET_AND_ERR,
    RTS: { optional: rtsAttrs },
    SQD: {
      optional: {
        RC: [
          ...REQUESTER.filter((name) => name !== 'sqPsn'),
          ...SQD_PATH,
          'port',
          'maxDestRdAtomic',
          'minRnrTimer',
        ],
        // Not ahAttr: ib_uverbs adds the port to it, which UC does not take here (kernel core/uverbs_cmd.c modify_qp).
        UC: SQD_PATH.filter((name) => name !== 'ahAttr'),
        UD: ['pkeyIndex', 'qkey'],
        XRC_SEND: [...REQUESTER.filter((name) => name !== 'sqPsn'), ...SQD_PATH, 'port'],
        XRC_RECV: ['timeout', ...SQD_PATH, 'port', 'maxDestRdAtomic', 'minRnrTimer'],
      },
    },
  },
  SQE: {
    ...RESET_AND_ERR,
    RTS: { optional: { UC: ['curState', 'accessFlags'], UD: ['curState', 'qkey'] } },
  },
  ERR: RESET_AND_ERR,
};

/** The states that a queue pair in [from] can be asked to go to. @internal */
export function allowedTargets(from: QpKnownState): readonly QpTargetState[] {
  return Object.keys(transitions[from]) as QpTargetState[];
}

/** What the transition needs and takes; undefined when it is impossible. @internal */
export function transitionAttrs(
  type: QpType,
  from: QpKnownState,
  to: QpKnownState,
): TransitionAttrs | undefined {
  const transition = transitions[from][to];
  if (transition === undefined) return undefined;
  // Every transition takes a rate limit; which queue pairs have one is the provider's to say.
  const optional = [...(transition.optional?.[type] ?? []), 'rateLimit' as const];
  return { required: transition.required?.[type] ?? [], optional };
}
