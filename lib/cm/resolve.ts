/** rdma_resolve_addr(3) and rdma_resolve_route(3). */
import { isIP } from 'node:net';
import { addon } from '../addon.ts';
import { type Address, checkAddress, lookupAddress, numericAddress } from './address.ts';
import type { IdCore } from './id-core.ts';
import { type AwaitOptions, checkAwait } from './pending.ts';

/**
 * The kernel misses an ARP reply that comes while it looks, and looks again only when its time is up (kernel
 * core/addr.c process_one_req): it gets little time, and is asked again until the caller's is up.
 */
const RESOLVE_SLICE_MS = 500;

/** How an address is resolved. */
export interface ResolveAddrOptions extends AwaitOptions {
  /** Local address, numeric; chosen by the route to the target when it is left out. Port 0 chooses one. */
  readonly source?: Address;
}

/** @internal */
export async function resolveAddr(core: IdCore, target: Address, options: ResolveAddrOptions): Promise<void> {
  checkAddress('target', target);
  const { source } = options;
  const [sourceHost, sourcePort, sourceScope] =
    source === undefined ? [undefined, 0, 0] : numericAddress('source', source);
  const slice = Math.min(checkAwait(options), RESOLVE_SLICE_MS);
  core.require('rdma_resolve_addr', ['idle', 'bound']);
  let found = target;
  const resolve = (handle: number) => {
    const scope = found.scopeId ?? 0;
    core.target = { ...found, family: isIP(found.host) === 6 ? 'IPv6' : 'IPv4' };
    addon.resolveAddr(handle, found.host, found.port, scope, slice, sourceHost, sourcePort, sourceScope);
  };
  const start = (handle: number): void | Promise<void> => {
    if (isIP(target.host) !== 0) return resolve(handle);
    core.target = target;
    return lookupAddress(target).then((address) => {
      found = address;
      // The step may have been ended meanwhile, and with it the id.
      if (core.state !== 'closed') resolve(handle);
    });
  };
  await core.step({ what: 'resolve addr', expects: ['ADDR_RESOLVED'], start, again: resolve }, options);
}

/** @internal */
export async function resolveRoute(core: IdCore, options: AwaitOptions): Promise<void> {
  core.require('rdma_resolve_route', ['addrResolved']);
  const start = (handle: number, timeoutMs: number) => {
    addon.resolveRoute(handle, Math.min(timeoutMs, 0x7fff_ffff));
  };
  await core.step({ what: 'resolve route', expects: ['ROUTE_RESOLVED'], start }, options);
}
