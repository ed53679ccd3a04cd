/** Addresses of rdma_cm: IPv4 and IPv6 addresses and port numbers. */
import { lookup } from 'node:dns/promises';
import { isIP } from 'node:net';
import type { NativeHost } from '../addon.ts';
import { invalidArgument } from '../errors.ts';
import { checkInteger, checkText } from '../verbs/check.ts';

/** An address of a port space. */
export interface Address {
  /**
   * A numeric IPv4 or IPv6 address; for what is resolved also a host name. A link-local address carries its interface:
   * 'fe80::1%eth0'.
   */
  readonly host: string;
  readonly port: number;
  readonly family?: 'IPv4' | 'IPv6';
  /** Interface of a link-local IPv6 address, when the host does not name one. */
  readonly scopeId?: number;
}

/** 'host:port' as it stands in messages. @internal */
export function addressText(address: Address | undefined): string {
  if (address === undefined) return '(no address)';
  return address.host.includes(':') ? `[${address.host}]:${address.port}` : `${address.host}:${address.port}`;
}

/** Throws unless [address] can be resolved. @internal */
export function checkAddress(name: string, address: Address): void {
  checkText(`${name}.host`, address?.host);
  checkInteger(`${name}.port`, address.port, 0, 65535);
  if (address.scopeId !== undefined) checkInteger(`${name}.scopeId`, address.scopeId, 0, 0xffff_ffff);
}

/** [address] for the addon. @throws RdmaError ERR_INVALID_ARG_VALUE when its host is a name @internal */
export function numericAddress(name: string, address: Address): NativeHost {
  checkAddress(name, address);
  if (isIP(address.host) === 0) {
    throw invalidArgument(
      'ERR_INVALID_ARG_VALUE',
      `${name}.host must be a numeric IP address, not "${address.host}"`,
    );
  }
  return [address.host, address.port, address.scopeId ?? 0];
}

/** [address] with a numeric host. @internal */
export async function lookupAddress(address: Address): Promise<Address & { family: 'IPv4' | 'IPv6' }> {
  const host = isIP(address.host) === 0 ? (await lookup(address.host)).address : address.host;
  return { ...address, host, family: isIP(host) === 6 ? 'IPv6' : 'IPv4' };
}
