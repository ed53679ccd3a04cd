/** Subsystems, and all that hosts can find of them. */

import type { Backend } from './backend.ts';
import { Controller, type EventName } from './controller.ts';
import type { Counters } from './counters.ts';
import { Namespace } from './namespace.ts';
import { DISCOVERY_NQN } from './wire/connect.ts';
import { type DiscoveryEntry, encodeDiscovery } from './wire/logs.ts';

/** Highest namespace identifier. */
export const MAX_NAMESPACES = 1024;
/** Entries of an admin queue. */
export const ADMIN_DEPTH = 32;
const MAX_NQN_BYTES = 223;

/** @throws RangeError for a name that no host could give */
function checkNqn(nqn: string): void {
  const bytes = Buffer.byteLength(nqn);
  if (!nqn.startsWith('nqn.') || bytes > MAX_NQN_BYTES) {
    throw new RangeError(`an NQN starts with "nqn." and has at most ${MAX_NQN_BYTES} bytes: ${nqn}`);
  }
}

export interface SubsystemOptions {
  readonly nqn: string;
  /** NQNs of the hosts that may connect; all by default. */
  readonly allowedHosts?: readonly string[];
}

/** What hosts connect to: namespaces under a name. */
export class Subsystem {
  readonly nqn: string;
  readonly namespaces = new Map<number, Namespace>();
  readonly controllers = new Set<Controller>();
  readonly #allowedHosts: ReadonlySet<string> | undefined;

  constructor({ nqn, allowedHosts }: SubsystemOptions) {
    checkNqn(nqn);
    for (const host of allowedHosts ?? []) checkNqn(host);
    this.nqn = nqn;
    this.#allowedHosts = allowedHosts === undefined ? undefined : new Set(allowedHosts);
  }

  allows(hostNqn: string): boolean {
    return this.#allowedHosts === undefined || this.#allowedHosts.has(hostNqn);
  }

  /** Some namespace has something to flush. */
  get volatileCache(): boolean {
    return [...this.namespaces.values()].some(({ backend }) => backend.volatileCache);
  }

  /** Adds a namespace under the lowest free identifier, and tells the hosts that are connected. */
  addNamespace(backend: Backend, blockBytes = 4096): Namespace {
    let nsid = 1;
    while (this.namespaces.has(nsid)) nsid++;
    if (nsid > MAX_NAMESPACES) throw new RangeError(`there are ${MAX_NAMESPACES} namespaces already`);
    const namespace = new Namespace(nsid, backend, blockBytes);
    this.namespaces.set(nsid, namespace);
    this.#changed(nsid);
    return namespace;
  }

  /** Takes a namespace away; its backend stays open. */
  removeNamespace(nsid: number): Namespace | undefined {
    const namespace = this.namespaces.get(nsid);
    this.namespaces.delete(nsid);
    if (namespace !== undefined) this.#changed(nsid);
    return namespace;
  }

  #changed(nsid: number): void {
    for (const controller of this.controllers) {
      controller.changedNamespaces.add(nsid);
      controller.notify('namespaces');
    }
  }
}

/** Limits of controllers. */
export interface Limits {
  /** Entries of an I/O queue. */
  readonly depth: number;
  readonly ioQueues: number;
  /** Bytes of data in a command capsule of an I/O queue. */
  readonly inCapsule: number;
}

/** Where hosts connect to. */
export interface Port {
  readonly host: string;
  readonly port: number;
  readonly iwarp: boolean;
}

const MAX_CNTLID = 0xffef;

/** All subsystems, the addresses they are at, and the controllers that hosts have. */
export class Registry {
  readonly subsystems = new Map<string, Subsystem>();
  readonly ports: Port[] = [];
  readonly controllers = new Map<number, Controller>();
  readonly limits: Limits;
  readonly counters: Counters;
  #generation = 1;
  #lastCntlid = 0;

  constructor(limits: Limits, counters: Counters) {
    this.limits = limits;
    this.counters = counters;
  }

  addSubsystem(options: SubsystemOptions): Subsystem {
    if (this.subsystems.has(options.nqn)) throw new RangeError(`there is a subsystem ${options.nqn} already`);
    const subsystem = new Subsystem(options);
    this.subsystems.set(subsystem.nqn, subsystem);
    this.#changed();
    return subsystem;
  }

  addPort(port: Port): void {
    this.ports.push(port);
    this.#changed();
  }

  #changed(): void {
    this.#generation++;
    this.#notify('discovery');
  }

  #notify(event: EventName): void {
    for (const controller of this.controllers.values()) {
      if (controller.subsystem === undefined) controller.notify(event);
    }
  }

  /** A controller for a host; undefined when all identifiers are taken. */
  createController(
    subsystem: Subsystem | undefined,
    hostNqn: string,
    hostId: string,
    keepAlive: number,
  ): Controller | undefined {
    if (this.controllers.size >= MAX_CNTLID) return undefined;
    do this.#lastCntlid = (this.#lastCntlid % MAX_CNTLID) + 1;
    while (this.controllers.has(this.#lastCntlid));
    const controller = new Controller({
      cntlid: this.#lastCntlid,
      hostNqn,
      hostId,
      subsystem,
      nqn: subsystem?.nqn ?? DISCOVERY_NQN,
      keepAlive,
      depth: this.limits.depth,
      maxIoQueues: this.limits.ioQueues,
      onClose: () => {
        this.controllers.delete(controller.cntlid);
        subsystem?.controllers.delete(controller);
      },
    });
    this.controllers.set(controller.cntlid, controller);
    subsystem?.controllers.add(controller);
    return controller;
  }

  /** What [hostNqn] may connect to, at every address. */
  discoveryLog(hostNqn: string): Uint8Array {
    const entries: DiscoveryEntry[] = [];
    for (const [index, port] of this.ports.entries()) {
      const at = { ...port, portId: index + 1 };
      entries.push({ ...at, kind: 'discovery', nqn: DISCOVERY_NQN });
      for (const subsystem of this.subsystems.values()) {
        if (subsystem.allows(hostNqn)) entries.push({ ...at, kind: 'nvm', nqn: subsystem.nqn });
      }
    }
    return encodeDiscovery(entries, this.#generation);
  }
}
