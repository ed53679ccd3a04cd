/** mckey(1): datagrams to a multicast group. */
import { setTimeout as sleep } from 'node:timers/promises';
import { CmId } from '../../lib/index.ts';
import { MessageEnd } from './message-end.ts';

/** Settings of mckey. */
export interface MckeyOptions {
  /** The group. */
  group: string;
  /** Address of the device to use. */
  bind: string | undefined;
  count: number;
  /** Bytes of a message. */
  size: number;
  sender: boolean;
  /** Only join to send. */
  sendOnly?: boolean;
  /** How long the sender waits for the network to know the members. Default 3000. */
  settleMs?: number;
  onJoined?: () => void;
}

/** Joins, sends or receives [count] messages, and leaves. */
export async function mckey(options: MckeyOptions): Promise<void> {
  const { group, bind, count, size, sender, sendOnly = false, settleMs = 3000, onJoined } = options;
  using id = new CmId({ portSpace: 'UDP' });
  await id.resolveAddr(
    { host: group, port: 0 },
    { timeoutMs: 2000, ...(bind !== undefined && { source: { host: bind, port: 0 } }) },
  );
  const end = await MessageEnd.create(id, size, count);
  using joined = await id.joinMulticast(group, { sendOnly });
  onJoined?.();
  if (!sender) {
    await Promise.all(end.received);
    return;
  }
  await sleep(settleMs);
  const target = end.target(joined.ud);
  await Promise.all(Array.from({ length: count }, () => end.send(target)));
}
