/** Attributes of a path: of an address handle, or of a connected queue pair (struct ibv_ah_attr, ibv_create_ah(3)). */
import { inspect } from 'node:util';
import type { NativeAhAttr } from '../addon.ts';
import { invalidArgument } from '../errors.ts';
import { checkInteger } from './check.ts';
import type { Device } from './device.ts';
import { type Gid, gidText } from './gid.ts';

/** The global route: needed on RoCE, and between InfiniBand subnets (struct ibv_global_route). */
export interface GlobalRoute {
  /** GID of the target. */
  readonly dgid: Gid;
  /** Index into the port's GID table of the source, 0 … 255; 0 by default. */
  readonly sgidIndex?: number;
  /** Routers that a packet may pass, 0 … 255; 64 by default. */
  readonly hopLimit?: number;
  /** 20 bits; 0 by default. */
  readonly flowLabel?: number;
  /** 0 … 255; 0 by default. */
  readonly trafficClass?: number;
}

/** A path to a target. */
export interface AhAttr {
  /** Needed on RoCE. */
  readonly grh?: GlobalRoute;
  /** Local identifier of the target, on InfiniBand; 0 by default. */
  readonly dlid?: number;
  /** Service level, 0 … 15; 0 by default. */
  readonly sl?: number;
  /** 7 bits; 0 by default. */
  readonly srcPathBits?: number;
  /** enum ibv_rate; 0 (as fast as the port) by default. */
  readonly staticRate?: number;
  /** The local port; 1 by default, or the queue pair's. */
  readonly port?: number;
}

/** The path that a queue pair or an address handle has. */
export interface AhAttrInfo extends AhAttr {
  readonly grh?: GlobalRoute & { readonly dgid: string };
}

function checkRoute(name: string, grh: unknown, gidTblLen: number): NonNullable<NativeAhAttr['grh']> {
  if (typeof grh !== 'object' || grh === null) {
    throw invalidArgument(
      'ERR_INVALID_ARG_TYPE',
      `${name}.grh must be { dgid, sgidIndex, … }, not ${inspect(grh)}`,
    );
  }
  const { dgid, sgidIndex = 0, hopLimit = 64, flowLabel = 0, trafficClass = 0 } = grh as GlobalRoute;
  // libibverbs has 8 bits for it, whatever the table's length.
  checkInteger(`${name}.grh.sgidIndex`, sgidIndex, 0, Math.min(gidTblLen, 256) - 1);
  checkInteger(`${name}.grh.hopLimit`, hopLimit, 0, 255);
  checkInteger(`${name}.grh.flowLabel`, flowLabel, 0, 0xf_ffff);
  checkInteger(`${name}.grh.trafficClass`, trafficClass, 0, 255);
  return { dgid: gidText(`${name}.grh.dgid`, dgid), sgidIndex, hopLimit, flowLabel, trafficClass };
}

/**
 * [attr] as the addon wants it.
 *
 * @throws RdmaError when a value is out of its range, and without grh on a RoCE port: the kernel would answer EINVAL
 * @internal
 */
export function checkAhAttr(name: string, attr: unknown, device: Device, defaultPort = 1): NativeAhAttr {
  if (typeof attr !== 'object' || attr === null) {
    throw invalidArgument('ERR_INVALID_ARG_TYPE', `${name} must be an object, not ${inspect(attr)}`);
  }
  const { grh, dlid = 0, sl = 0, srcPathBits = 0, staticRate = 0, port = defaultPort } = attr as AhAttr;
  checkInteger(`${name}.port`, port, 1, device.attr.physPortCnt);
  checkInteger(`${name}.dlid`, dlid, 0, 0xffff);
  checkInteger(`${name}.sl`, sl, 0, 15);
  checkInteger(`${name}.srcPathBits`, srcPathBits, 0, 0x7f);
  checkInteger(`${name}.staticRate`, staticRate, 0, 255);
  const native = { dlid, sl, srcPathBits, staticRate, port };
  const { linkLayer, gidTblLen } = device.queryPort(port);
  if (grh !== undefined) return { ...native, grh: checkRoute(name, grh, gidTblLen) };
  if (linkLayer === 'Ethernet') {
    throw invalidArgument(
      'ERR_INVALID_ARG_VALUE',
      `${name}.grh is missing: port ${port} of ${device.name} is an Ethernet port, where only a global route (dgid, sgidIndex) names the target`,
    );
  }
  return native;
}
