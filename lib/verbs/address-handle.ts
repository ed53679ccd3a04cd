import { addon, type NativeAh } from '../addon.ts';
import { invalidArgument, RdmaError } from '../errors.ts';
import { type AhAttr, type AhAttrInfo, checkAhAttr } from './ah-attr.ts';
import { bytesOf, checkInteger } from './check.ts';
import { Owned } from './owned.ts';
import type { ProtectionDomain } from './protection-domain.ts';

const WC_GRH = 1;
const GRH_BYTES = 40;

/** What a reply needs to know of a received datagram: its {@link WorkCompletion}, or some of its fields. */
export interface DatagramOrigin {
  /** The first 40 bytes of the buffer are a global routing header, as always on RoCE; true by default. */
  readonly grh?: boolean;
  /** Queue pair number of the sender. */
  readonly srcQp?: number;
  /** InfiniBand only, as the next two. */
  readonly slid?: number;
  readonly sl?: number;
  readonly dlidPathBits?: number;
}

/**
 * The way to a datagram's target (ibv_create_ah(3)); made by {@link ProtectionDomain.createAh}. Work requests that name it
 * hold it: closed, it is refused at once, and destroyed when the last of them has completed.
 */
export class AddressHandle extends Owned {
  readonly pd: ProtectionDomain;
  /** What it was made with. */
  readonly attr: AhAttrInfo;

  /** @internal */
  constructor(pd: ProtectionDomain, native: NativeAh) {
    super('address handle', native.handle);
    this.pd = pd;
    this.attr = native.attr;
  }
}

function needDatagrams(pd: ProtectionDomain, syscall: string): void {
  if (pd.device.transport !== 'iwarp') return;
  throw new RdmaError(
    'EOPNOTSUPP',
    `${syscall}: ${pd.device.name} is an iWARP device, which has no datagrams and no address handles`,
    { syscall, device: pd.device.name },
  );
}

/** @internal */
export function createAh(pd: ProtectionDomain, attr: AhAttr): AddressHandle {
  needDatagrams(pd, 'ibv_create_ah');
  return new AddressHandle(pd, addon.createAh(pd._handle, checkAhAttr('attr', attr, pd.device)));
}

/** @internal */
export function createAhFromWc(
  pd: ProtectionDomain,
  wc: DatagramOrigin,
  buffer: Uint8Array,
  port = 1,
): AddressHandle {
  needDatagrams(pd, 'ibv_init_ah_from_wc');
  const { grh = true, srcQp = 0, slid = 0, sl = 0, dlidPathBits = 0 } = wc;
  checkInteger('port', port, 1, pd.device.attr.physPortCnt);
  checkInteger('wc.srcQp', srcQp, 0, 0xffff_ffff);
  checkInteger('wc.slid', slid, 0, 0xffff);
  checkInteger('wc.sl', sl, 0, 15);
  checkInteger('wc.dlidPathBits', dlidPathBits, 0, 0x7f);
  const bytes = bytesOf('buffer', buffer);
  if (bytes.length < GRH_BYTES) {
    throw invalidArgument(
      'ERR_OUT_OF_RANGE',
      `buffer has ${bytes.length} bytes: give the datagram's receive buffer, which begins with a GRH of ${GRH_BYTES}`,
    );
  }
  if (!grh && pd.device.queryPort(port).linkLayer === 'Ethernet') {
    throw invalidArgument(
      'ERR_INVALID_ARG_VALUE',
      'wc.grh is false, but every RoCE datagram has a GRH: was this a receive?',
    );
  }
  return new AddressHandle(
    pd,
    addon.createAhFromWc(pd._handle, port, grh ? WC_GRH : 0, srcQp, slid, sl, dlidPathBits, bytes),
  );
}
