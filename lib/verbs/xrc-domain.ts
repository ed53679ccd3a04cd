import { constants } from 'node:fs';
import { addon } from '../addon.ts';
import { RdmaError } from '../errors.ts';
import { checkInteger } from './check.ts';
import type { Device } from './device.ts';
import { Owned } from './owned.ts';

/** Options of {@link Device.openXrcd}. */
export interface XrcDomainOptions {
  /**
   * A file that processes share the domain by: those that open it with a descriptor of one inode have one domain. Without
   * it the domain is this process's. Only its inode counts; it may be closed afterwards.
   */
  readonly fd?: number;
  /** Makes the domain when there is none for the file yet (O_CREAT); true by default. */
  readonly create?: boolean;
  /** With create: EEXIST when there is one already (O_EXCL). */
  readonly exclusive?: boolean;
}

/**
 * A domain of extended reliable connections (ibv_open_xrcd(3)); made by {@link Device.openXrcd}. Its XRC_RECV queue pairs feed
 * its shared receive queues, whichever process they are of.
 */
export class XrcDomain extends Owned {
  readonly device: Device;

  /** @internal */
  constructor(device: Device, options: XrcDomainOptions = {}) {
    const { fd = -1, create = true, exclusive = false } = options;
    if (fd !== -1) checkInteger('fd', fd, 0, 0x7fff_ffff);
    if (device.transport === 'iwarp') {
      throw new RdmaError(
        'EOPNOTSUPP',
        `ibv_open_xrcd: ${device.name} is an iWARP device, which has no extended reliable connections`,
        { syscall: 'ibv_open_xrcd', device: device.name },
      );
    }
    const flags = (create ? constants.O_CREAT : 0) | (exclusive ? constants.O_EXCL : 0);
    super('XRC domain', addon.openXrcd(device._handle, fd, flags));
    this.device = device;
  }
}
