import { addon, type NativeAh } from '../addon.ts';
import { invalidArgument, RdmaError } from '../errors.ts';
import { type AhAttr, type AhAttrInfo, checkAhAttr } from './ah-attr.ts';
import { bytesOf, checkInteger } from './check.ts';
import { Owned } from './owned.ts';
import type { ProtectionDomain } from './protection-domain.ts';

const WC_GRH = 1;
const GRH_BYTES = 40;

/** What a reply needs to know of a received datagram: fields of its completion (struct ibv_wc, ibv_poll_cq(3)). */
export interface DatagramOrigin {
  /** Of the completion; bit 0 (IBV_WC_GRH) says that the first 40 bytes are a GRH. Set by default. */
  readonly wcFlags?: number;
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
  grh: Uint8Array,
  port = 1,
): AddressHandle {
  needDatagrams(pd, 'ibv_init_ah_from_wc');
  const { wcFlags = WC_GRH, srcQp = 0, slid = 0, sl = 0, dlidPathBits = 0 } = wc;
  checkInteger('port', port, 1, pd.device.attr.physPortCnt);
  checkInteger('wc.wcFlags', wcFlags, 0, 0xffff_ffff);
  checkInteger('wc.srcQp', srcQp, 0, 0xffff_ffff);
  checkInteger('wc.slid', slid, 0, 0xffff);
  checkInteger('wc.sl', sl, 0, 15);
  checkInteger('wc.dlidPathBits', dlidPathBits, 0, 0x7f);
  const bytes = bytesOf('grh', grh);
  if (bytes.length < GRH_BYTES) {
    throw invalidArgument(
      'ERR_OUT_OF_RANGE',
      `grh has ${bytes.length} bytes: give the first ${GRH_BYTES} of the datagram's receive buffer`,
    );
  }
  if ((wcFlags & WC_GRH) === 0 && pd.device.queryPort(port).linkLayer === 'Ethernet') {
    throw invalidArgument(
      'ERR_INVALID_ARG_VALUE',
      `wc.wcFlags 0x${wcFlags.toString(16)} lacks bit 0 (IBV_WC_GRH), which every RoCE datagram has: was this a receive?`,
    );
  }
  return new AddressHandle(
    pd,
    addon.createAhFromWc(pd._handle, port, wcFlags, srcQp, slid, sl, dlidPathBits, bytes),
  );
}
