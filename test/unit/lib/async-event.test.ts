import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { asyncEvent, asyncEventType } from '../../../lib/verbs/async-event.ts';
import type { Device } from '../../../lib/verbs/device.ts';

const device = { name: 'fake' } as Device;
const object = { what: 'an object' };

/** By number: the name, and which property says what it is about. */
const known: readonly [name: string, about: 'cq' | 'qp' | 'srq' | 'port' | 'device'][] = [
  ['CQ_ERR', 'cq'],
  ['QP_FATAL', 'qp'],
  ['QP_REQ_ERR', 'qp'],
  ['QP_ACCESS_ERR', 'qp'],
  ['COMM_EST', 'qp'],
  ['SQ_DRAINED', 'qp'],
  ['PATH_MIG', 'qp'],
  ['PATH_MIG_ERR', 'qp'],
  ['DEVICE_FATAL', 'device'],
  ['PORT_ACTIVE', 'port'],
  ['PORT_ERR', 'port'],
  ['LID_CHANGE', 'port'],
  ['PKEY_CHANGE', 'port'],
  ['SM_CHANGE', 'port'],
  ['SRQ_ERR', 'srq'],
  ['SRQ_LIMIT_REACHED', 'srq'],
  ['QP_LAST_WQE_REACHED', 'qp'],
  ['CLIENT_REREGISTER', 'port'],
  ['GID_CHANGE', 'port'],
  ['WQ_FATAL', 'device'],
  ['DEVICE_SPEED_CHANGE', 'port'],
];

describe('asynchronous events', () => {
  it.each(known.map(([name, about], number) => ({ number, name, about })))(
    '$number is $name, of a $about',
    ({ number, name, about }) => {
      const type = asyncEventType(number);
      expect(type).toBe(name);
      const expected = {
        port: { type, device, port: 3 },
        device: { type, device },
        qp: { type, device, qp: object },
        cq: { type, device, cq: object },
        srq: { type, device, srq: object },
      }[about];
      expect(asyncEvent(device, type!, 3, object)).toEqual(expected);
    },
  );

  it('of an object that is gone are not told', () => {
    for (const [name, about] of known) {
      const told = asyncEvent(device, name as 'QP_FATAL', 1, undefined) !== undefined;
      expect(told, name).toBe(about === 'port' || about === 'device');
    }
  });

  it('of a kind that the library does not know are passed over', () => {
    expect(asyncEventType(known.length)).toBeUndefined();
    expect(asyncEventType(-1)).toBeUndefined();
  });

  it('have one of the library besides: DEVICE_REMOVED', () => {
    expect(asyncEventType(0x100)).toBe('DEVICE_REMOVED');
    expect(asyncEvent(device, 'DEVICE_REMOVED', 0, undefined)).toEqual({ type: 'DEVICE_REMOVED', device });
  });

  it('have the numbers of infiniband/verbs.h', () => {
    const header = readFileSync('/usr/include/infiniband/verbs.h', 'utf8');
    const names = /enum ibv_event_type \{([^}]*)\}/.exec(header)![1]!.match(/(?<=IBV_EVENT_)\w+/g)!;
    expect(names.map((_, number) => asyncEventType(number))).toEqual(names);
  });
});
