/** The event channel of this thread: all ids share it, events are told apart by their id. */
import { addon } from '../addon.ts';
import { type CmEventName, cmEventNames } from './events.ts';

/** An event, copied; its id has been found already. @internal */
export interface CmEvent {
  readonly name: CmEventName;
  readonly status: number;
  /** Handle of the new id, for CONNECT_REQUEST. */
  readonly newId: number;
  readonly privateData: Buffer;
  readonly responderResources: number;
  readonly initiatorDepth: number;
}

/** What receives the events of an id. @internal */
export interface CmEventTarget {
  _onEvent(event: CmEvent): void;
}

const targets = new Map<number, CmEventTarget>();
let channel = 0;
let active = 0;

/** Handle of the channel; it is made at the first use. @internal */
export function eventChannel(): number {
  if (channel === 0) {
    channel = addon.createEventChannel(
      (type, status, id, listener, privateData, responderResources, initiatorDepth) => {
        const name = cmEventNames[type];
        if (name === undefined) return;
        const target = targets.get(name === 'CONNECT_REQUEST' ? listener : id);
        target?._onEvent({ name, status, newId: id, privateData, responderResources, initiatorDepth });
      },
    );
  }
  return channel;
}

/** Routes the events of [id] to [target]. @internal */
export function addTarget(id: number, target: CmEventTarget): void {
  targets.set(id, target);
}

/** @internal */
export function removeTarget(id: number): void {
  targets.delete(id);
}

/** Counts the ids that keep the process alive: those that listen, connect or are connected. @internal */
export function addActive(delta: 1 | -1): void {
  active += delta;
  if (active === (delta === 1 ? 1 : 0)) addon.refEventChannel(eventChannel(), delta === 1);
}
