import { addon } from '../addon.ts';
import type { Device } from './device.ts';
import { Owned } from './owned.ts';

/**
 * A promise that one thread at a time uses what is made with it, so that the device's library can do without locks
 * (ibv_alloc_td(3)); made by {@link Device.allocTd}, and given to {@link ProtectionDomain.allocParentDomain}. Objects here
 * belong to the thread that made them in any case. Closing it closes the parent domains that were made with it.
 */
export class ThreadDomain extends Owned {
  readonly device: Device;

  /** @internal */
  constructor(device: Device) {
    super('thread domain', addon.allocTd(device._handle));
    this.device = device;
  }
}
