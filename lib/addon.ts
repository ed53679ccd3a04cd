/**
 * Loads the native addon. The only file that knows where the binary is and what it exports.
 */
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { RdmaError, systemError } from './errors.ts';
import { layout, POST_STATUS_WORDS } from './layout.ts';

/** What the binary exports; handles are 31-bit numbers that name native objects of this thread. @internal */
export interface Addon {
  readonly layout: typeof layout;
  initialise(
    makeError: (syscall: string, errno: number, detail: string) => Error,
    postStatus: Uint32Array,
  ): void;
  close(handle: number): number[];
  liveObjects(): number;

  listDevices(): { name: string; guid: bigint; transport: string }[];
  openDevice(name: string): number;
  queryDevice(device: number): Record<string, string | number>;
  queryPort(device: number, port: number): Record<string, number>;
  allocPd(device: number): number;

  regMr(pd: number, view: Uint8Array, access: number): Promise<NativeRegion>;
  regMrSync(pd: number, view: Uint8Array, access: number): NativeRegion;
  allocSlab(
    pd: number,
    length: number,
    access: number,
    hugePages: boolean,
  ): Promise<NativeRegion & { buffer: ArrayBuffer }>;
  closeMr(handle: number): Promise<void>;
  addressOf(view: Uint8Array): number;

  createCq(
    device: number,
    cqe: number,
    ring: Uint32Array,
    callback: (count: number) => void,
  ): [number, number];
  pollCq(cq: number): number;
  refCq(cq: number, ref: boolean): void;

  createQp(
    id: number,
    pd: number,
    sendCq: number,
    recvCq: number,
    maxSendWr: number,
    maxRecvWr: number,
    maxSendSge: number,
    maxRecvSge: number,
    maxInline: number,
  ): { handle: number; qpNum: number; send: NativeQueueLimits; recv: NativeQueueLimits };
  attachRings(qp: number, send: Uint8Array, recv: Uint8Array): void;
  postSend(qp: number, first: number, count: number): number;
  postRecv(qp: number, first: number, count: number): number;
  queryQpState(qp: number): number;
  qpToError(qp: number): void;
  setMinRnrTimer(qp: number, timer: number): void;

  createEventChannel(callback: NativeCmCallback): number;
  refEventChannel(channel: number, ref: boolean): void;
  createId(channel: number): number;
  bindAddr(id: number, host: string, port: number): void;
  listen(id: number, backlog: number): void;
  resolveAddr(
    id: number,
    host: string,
    port: number,
    timeoutMs: number,
    sourceHost: string | undefined,
    sourcePort: number,
  ): void;
  resolveRoute(id: number, timeoutMs: number): void;
  connect(id: number, ...param: NativeConnParam): Promise<void>;
  accept(id: number, ...param: NativeConnParam): void;
  reject(id: number, privateData: Uint8Array): void;
  disconnect(id: number): void;
  describeId(id: number): { device: string; local?: NativeAddress; peer?: NativeAddress };
}

/** @internal */
export interface NativeRegion {
  handle: number;
  addr: number;
  length: number;
  lkey: number;
  rkey: number;
}

/** @internal */
export interface NativeQueueLimits {
  maxWr: number;
  capacity: number;
  maxSge: number;
  maxSgeRead: number;
  maxInline: number;
  maxMessage: number;
  ringBytes: number;
}

/** @internal */
export interface NativeAddress {
  host: string;
  port: number;
  family: 'IPv4' | 'IPv6';
}

/** privateData, responderResources, initiatorDepth, flowControl, retryCount, rnrRetryCount. @internal */
export type NativeConnParam = [Uint8Array, number, number, number, number, number];

/** @internal */
export type NativeCmCallback = (
  type: number,
  status: number,
  id: number,
  listener: number,
  privateData: Buffer,
  responderResources: number,
  initiatorDepth: number,
) => void;

/** The directory that holds package.json: the package's root, from lib/ as well as from dist/lib/. */
function packageRoot(): string {
  let directory = dirname(fileURLToPath(import.meta.url));
  while (!existsSync(join(directory, 'package.json'))) directory = dirname(directory);
  return directory;
}

/** Says in words why the binary did not load. @internal */
export function explainLoadFailure(error: Error): RdmaError {
  const library = /(lib(?:ibverbs|rdmacm)\.so\.\d+): cannot open shared object/.exec(error.message)?.[1];
  const hints: string[] = [];
  if (library !== undefined) {
    const names = library.startsWith('libibverbs') ? 'libibverbs1' : 'librdmacm1';
    hints.push(
      `the RDMA library ${library} is missing: install the package ${names} ` +
        '(Debian, Ubuntu: apt-get install libibverbs1 librdmacm1 ibverbs-providers; Fedora: dnf install libibverbs librdmacm)',
    );
  } else if (/No native build was found|Cannot find module|no such file/i.test(error.message)) {
    hints.push('there is no native addon for this platform: run `npm run build` in the package directory');
  } else if (/GLIBC|GLIBCXX|CXXABI/.test(error.message)) {
    hints.push(
      'the C library of this system is older than the one the addon was built with: run `npm run build`',
    );
  }
  const text = hints.length > 0 ? hints.join('; ') : error.message;
  return new RdmaError('ERR_RDMA_ADDON', `node-rdma could not load its native addon: ${text}`, {
    syscall: 'dlopen',
    cause: error,
  });
}

/** Loads the addon at [path]. @internal */
export function loadAddon(path?: string): Addon {
  const require = createRequire(import.meta.url);
  const { path: find } = require('node-gyp-build') as { path(directory: string): string };
  let loaded: Addon;
  try {
    loaded = require(path ?? process.env.NODE_RDMA_ADDON ?? find(packageRoot())) as Addon;
  } catch (error) {
    throw explainLoadFailure(error as Error);
  }
  if (JSON.stringify(loaded.layout) !== JSON.stringify(layout)) {
    throw new RdmaError(
      'ERR_RDMA_ADDON',
      'node-rdma: the native addon was built from other sources than this JavaScript: run `npm run build`',
    );
  }
  return loaded;
}

/** What the last failed post said, shared with the addon. @internal */
export const postStatus = new Uint32Array(new SharedArrayBuffer(POST_STATUS_WORDS * 4));

/** @internal */
export const addon: Addon = loadAddon();
addon.initialise(systemError, postStatus);

/** How many native objects of this thread are open; for tests and leak hunts. */
export function liveObjects(): number {
  return addon.liveObjects();
}
