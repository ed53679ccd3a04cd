/** rdma_getaddrinfo(3). */
import { inspect } from 'node:util';
import { addon, type NativeAddrInfo } from '../addon.ts';
import { invalidArgument, RdmaError } from '../errors.ts';
import { checkText } from '../verbs/check.ts';
import type { Address } from './address.ts';
import { type PortSpace, portSpaces } from './params.ts';
import { type AwaitOptions, checkAwait, Waiter } from './pending.ts';

/** What rdma_getaddrinfo(3) is asked for; what is left out is open. */
export interface AddrInfoHints {
  readonly family?: 'IPv4' | 'IPv6';
  readonly portSpace?: PortSpace;
  readonly qpType?: 'RC' | 'UC' | 'UD';
  /** The address is to listen on; without a node, all addresses. */
  readonly passive?: boolean;
  /** The node is a numeric address: nobody is asked for a name. */
  readonly numericHost?: boolean;
  /** Do not resolve a route, which a cache of routes (ibacm) might know. */
  readonly noRoute?: boolean;
}

/** One answer (struct rdma_addrinfo). */
export interface AddrInfo {
  readonly family: 'IPv4' | 'IPv6' | 'IB';
  readonly portSpace: PortSpace | undefined;
  readonly qpType: 'RC' | 'UC' | 'UD' | undefined;
  readonly passive: boolean;
  /** Where to bind: for {@link CmId.bind}, or the source of {@link CmId.resolveAddr}. */
  readonly source: Address | undefined;
  /** For {@link CmId.resolveAddr}. */
  readonly target: Address | undefined;
  readonly sourceName: string;
  readonly targetName: string;
  /** Path records of InfiniBand, as the kernel takes them; mostly empty. */
  readonly route: Buffer;
  /** Private data that the connection request must begin with; mostly empty. */
  readonly connectData: Buffer;
}

const AF_INET = 2;
const AF_INET6 = 10;
const flags = { passive: 1, numericHost: 2, noRoute: 4, family: 8 } as const;
const qpTypes = { RC: 2, UC: 3, UD: 4 } as const;

function numberOf<T extends object>(name: string, table: T, value: keyof T | undefined): number {
  if (value === undefined) return 0;
  if (Object.hasOwn(table, value)) return table[value] as number;
  throw invalidArgument(
    'ERR_INVALID_ARG_VALUE',
    `${name} must be one of ${Object.keys(table).join(', ')}, not ${inspect(value)}`,
  );
}

function nameOf<T extends object>(table: T, value: number): keyof T | undefined {
  return (Object.keys(table) as (keyof T)[]).find((name) => table[name] === value);
}

function addrInfo(native: NativeAddrInfo): AddrInfo {
  const families = { [AF_INET]: 'IPv4', [AF_INET6]: 'IPv6' } as const;
  return {
    family: families[native.family as typeof AF_INET] ?? 'IB',
    portSpace: nameOf(portSpaces, native.portSpace),
    qpType: nameOf(qpTypes, native.qpType),
    passive: (native.flags & flags.passive) !== 0,
    source: native.source,
    target: native.target,
    sourceName: native.sourceName,
    targetName: native.targetName,
    route: native.route,
    connectData: native.connectData,
  };
}

/**
 * Translates a node and a service to addresses for rdma_cm (rdma_getaddrinfo(3)), on the thread pool.
 *
 * @param node name or numeric address; undefined or '' for this machine
 * @param service name or number of the port; undefined or '' for none
 * @returns librdmacm 44 gives one answer
 * @throws RdmaError ENOTFOUND, EAI_AGAIN, EAI_SERVICE …, ETIMEDOUT, or the signal's reason; a call that has been given up
 *   ends by itself on the thread pool
 */
export async function getaddrinfo(
  node: string | undefined,
  service?: string | number,
  hints: AddrInfoHints = {},
  options: AwaitOptions = {},
): Promise<AddrInfo[]> {
  const wanted = service === undefined ? '' : String(service);
  if (node !== undefined && node !== '') checkText('node', node);
  if ((node ?? '') === '' && wanted === '') {
    throw invalidArgument('ERR_INVALID_ARG_VALUE', 'give a node, a service, or both');
  }
  if (`${node}${wanted}`.includes('\0')) {
    throw invalidArgument('ERR_INVALID_ARG_VALUE', 'node and service must not contain a null byte');
  }
  const family = numberOf('family', { IPv4: AF_INET, IPv6: AF_INET6 }, hints.family);
  const set =
    (hints.passive === true ? flags.passive : 0) |
    (hints.numericHost === true ? flags.numericHost : 0) |
    (hints.noRoute === true ? flags.noRoute : 0) |
    (family === 0 ? 0 : flags.family);
  const qpType = numberOf('qpType', qpTypes, hints.qpType);
  const portSpace = numberOf('portSpace', portSpaces, hints.portSpace);
  const timeoutMs = checkAwait(options);
  const text = () => `getaddrinfo ETIMEDOUT ${node ?? ''}:${wanted}`;
  const waiter = new Waiter<NativeAddrInfo[]>(timeoutMs, options.signal, 'rdma_getaddrinfo', text);
  addon.getAddrInfo(node ?? '', wanted, set, family, qpType, portSpace).then(
    (list) => waiter.done(list),
    (error: RdmaError) => waiter.fail(asNodeNamesIt(error)),
  );
  return (await waiter.promise).map(addrInfo);
}

/** As node:dns does. */
function asNodeNamesIt(error: RdmaError): RdmaError {
  if (error.code !== 'EAI_NONAME' && error.code !== 'EAI_NODATA') return error;
  const { syscall, errno } = error;
  return new RdmaError('ENOTFOUND', error.message.replace(error.code, 'ENOTFOUND'), { syscall, errno });
}
