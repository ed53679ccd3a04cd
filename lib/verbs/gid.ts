/** Global identifiers (GIDs): 128 bits, written as IPv6 addresses. */
import { isIPv4, isIPv6 } from 'node:net';
import { inspect } from 'node:util';
import { invalidArgument } from '../errors.ts';

/** A GID: the text of an IPv6 address, that of an IPv4 address (RoCE: ::ffff:a.b.c.d), or 16 bytes. */
export type Gid = string | Uint8Array;

/** [gid] as the text of an IPv6 address. @throws RdmaError ERR_INVALID_ARG_VALUE @internal */
export function gidText(name: string, gid: unknown): string {
  if (typeof gid === 'string' && isIPv4(gid)) return `::ffff:${gid}`;
  if (typeof gid === 'string' && isIPv6(gid) && !gid.includes('%')) return gid;
  if (gid instanceof Uint8Array && gid.length === 16) {
    const groups = Array.from({ length: 8 }, (_, i) =>
      (((gid[i * 2] as number) << 8) | (gid[i * 2 + 1] as number)).toString(16),
    );
    return groups.join(':');
  }
  throw invalidArgument(
    'ERR_INVALID_ARG_VALUE',
    `${name} must be a GID: the text of an IPv6 or IPv4 address, or 16 bytes; not ${inspect(gid)}`,
  );
}

/** True for the GID of a multicast group: ff00::/8, or an IPv4 multicast address mapped into IPv6. @internal */
export function isMulticastGid(text: string): boolean {
  return /^ff[0-9a-f]{2}:/i.test(text);
}
