import { addon } from '../addon.ts';
import type { Device } from './device.ts';
import { Owned } from './owned.ts';

/**
 * A completion channel (ibv_create_comp_channel(3)); made by {@link Device.createCompletionChannel}. Completion queues that
 * are made with it share its file descriptor; each still has a ring and callbacks of its own. Closing it closes them first.
 */
export class CompletionChannel extends Owned {
  readonly device: Device;

  /** @internal */
  constructor(device: Device) {
    super('completion channel', addon.createChannel(device._handle));
    this.device = device;
  }
}
