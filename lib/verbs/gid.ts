/** Global identifiers (GIDs): 128 bits, written as IPv6 addresses. */
import { isIPv4, isIPv6 } from 'node:net';
import { inspect } from 'node:util';
import { invalidArgument } from '../errors.ts';

/** A GID: the text of an IPv6 address, that of an IPv4 address (RoCE: ::ffff:a.b.c.d), or 16 bytes. */
export type Gid = string | Uint8Array;

/** A GID as an IPv6 address, written as RFC 5952 says. @param gid 16 bytes */
export function formatGid(gid: Uint8Array): string {
  const view = new DataView(gid.buffer, gid.byteOffset, 16);
  const groups = Array.from({ length: 8 }, (_, i) => view.getUint16(2 * i));
  if (groups.slice(0, 5).every((group) => group === 0) && groups[5] === 0xffff) {
    return `::ffff:${gid.subarray(12, 16).join('.')}`;
  }
  // The longest run of zero groups, the first of equals.
  let [at, length] = [0, 0];
  for (let i = 0; i < 8; i += 1) {
    let end = i;
    while (groups[end] === 0) end += 1;
    if (end - i > length) [at, length] = [i, end - i];
  }
  const hex = (part: number[]) => part.map((group) => group.toString(16)).join(':');
  return length < 2 ? hex(groups) : `${hex(groups.slice(0, at))}::${hex(groups.slice(at + length))}`;
}

/** [gid] as the text of an IPv6 address. @throws RdmaError ERR_INVALID_ARG_VALUE @internal */
export function gidText(name: string, gid: unknown): string {
  if (typeof gid === 'string' && isIPv4(gid)) return `::ffff:${gid}`;
  if (typeof gid === 'string' && isIPv6(gid) && !gid.includes('%')) return gid;
  if (gid instanceof Uint8Array && gid.length === 16) return formatGid(gid);
  throw invalidArgument(
    'ERR_INVALID_ARG_VALUE',
    `${name} must be a GID: the text of an IPv6 or IPv4 address, or 16 bytes; not ${inspect(gid)}`,
  );
}

/** True for the GID of a multicast group: ff00::/8, or an IPv4 multicast address mapped into IPv6. @internal */
export function isMulticastGid(text: string): boolean {
  const v4 = /^::ffff:(\d+)\./i.exec(text)?.[1];
  if (v4 !== undefined) return Number(v4) >= 224 && Number(v4) < 240;
  return /^ff[0-9a-f]{2}:|^::ffff:e[0-9a-f]{3}:/i.test(text);
}
