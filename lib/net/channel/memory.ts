/** The registered memory of one connection: two registrations, one that the peer may write to and one that it may not. */
import { Access, type MemorySlab, type ProtectionDomain } from '../../verbs/index.ts';
import { IOMAP_BYTES, MESSAGE_BYTES, SGE_BYTES, SGL_ENTRIES } from '../wire/index.ts';

/** Sizes of a connection's memory. @internal */
export interface MemorySizes {
  /** Bytes. */
  readonly sendBytes: number;
  /** Bytes, even. */
  readonly receiveBytes: number;
  /** Messages that the peer may have unread here. */
  readonly credits: number;
  /** Receives that are posted: more than credits, because control messages need none. */
  readonly receives: number;
  readonly iomapEntries: number;
}

/** A message's payload of this side's control messages, each in a cache line of its own. */
const CONTROL_BYTES = 64;
const CONTROL_SLOTS = 8;
const PAGE = 4096;

const upToPage = (bytes: number): number => Math.ceil(bytes / PAGE) * PAGE;

/** @internal */
export class ChannelMemory implements MemorySizes {
  readonly sendBytes: number;
  readonly receiveBytes: number;
  readonly credits: number;
  readonly receives: number;
  readonly iomapEntries: number;
  readonly sglEntries = SGL_ENTRIES;
  /** What waits to be sent. */
  readonly send: Uint8Array;
  readonly sendAddr: number;
  /** What the peer has sent. The peer can write to it at any time: copy before you look. */
  readonly receive: Uint8Array;
  readonly receiveAddr: number;
  /** Where the peer writes its receive buffers. */
  readonly sgl: DataView;
  readonly sglAddr: number;
  /** Where the peer writes the buffers that it has mapped. */
  readonly iomap: DataView;
  /** Payload of control messages. */
  readonly control: DataView;
  readonly controlAddr: number;
  readonly controlBytes = CONTROL_BYTES;
  /** Where messages come that are SENDs. */
  readonly messages: DataView;
  readonly messageAddr: number;
  readonly localKey: number;
  readonly remoteKey: number;
  readonly #slabs: readonly MemorySlab[];

  private constructor(sizes: MemorySizes, open: MemorySlab, own: MemorySlab) {
    this.sendBytes = sizes.sendBytes;
    this.receiveBytes = sizes.receiveBytes;
    this.credits = sizes.credits;
    this.receives = sizes.receives;
    this.iomapEntries = sizes.iomapEntries;
    this.#slabs = [open, own];
    this.remoteKey = open.mr.rkey;
    this.localKey = own.mr.lkey;
    this.receive = new Uint8Array(open.buffer, 0, sizes.receiveBytes);
    this.receiveAddr = open.addr;
    const sglAt = upToPage(sizes.receiveBytes);
    this.sgl = new DataView(open.buffer, sglAt, SGL_ENTRIES * SGE_BYTES);
    this.sglAddr = open.addr + sglAt;
    this.iomap = new DataView(open.buffer, sglAt + SGL_ENTRIES * SGE_BYTES, sizes.iomapEntries * IOMAP_BYTES);
    this.send = new Uint8Array(own.buffer, 0, sizes.sendBytes);
    this.sendAddr = own.addr;
    const controlAt = upToPage(sizes.sendBytes);
    this.control = new DataView(own.buffer, controlAt, CONTROL_SLOTS * CONTROL_BYTES);
    this.controlAddr = own.addr + controlAt;
    const messagesAt = controlAt + CONTROL_SLOTS * CONTROL_BYTES;
    this.messages = new DataView(own.buffer, messagesAt, sizes.receives * MESSAGE_BYTES);
    this.messageAddr = own.addr + messagesAt;
  }

  /** @throws RdmaError ENOMEM when no more memory may be locked */
  static async allocate(pd: ProtectionDomain, sizes: MemorySizes): Promise<ChannelMemory> {
    const openBytes =
      upToPage(sizes.receiveBytes) + SGL_ENTRIES * SGE_BYTES + sizes.iomapEntries * IOMAP_BYTES;
    const ownBytes =
      upToPage(sizes.sendBytes) + CONTROL_SLOTS * CONTROL_BYTES + sizes.receives * MESSAGE_BYTES;
    const open = pd.allocSlab(openBytes, Access.LOCAL_WRITE | Access.REMOTE_WRITE);
    const own = pd.allocSlab(ownBytes, Access.LOCAL_WRITE);
    const slabs = await Promise.allSettled([open, own]);
    const failed = slabs.find((slab) => slab.status === 'rejected');
    if (failed !== undefined) {
      for (const slab of slabs) if (slab.status === 'fulfilled') void slab.value.close();
      throw failed.reason;
    }
    return new ChannelMemory(sizes, await open, await own);
  }

  /** Ends the registrations. */
  close(): void {
    for (const slab of this.#slabs) void slab.close();
  }
}
