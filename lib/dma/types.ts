// What the DMA layer needs of the verbs objects. The real classes satisfy these; so do the fakes of the unit tests.

/** One scatter/gather element, as the device sees it. @see ibv_post_send(3), `struct ibv_sge` */
export interface Sge {
  /** Virtual address, bytes. */
  readonly addr: number;
  /** Bytes. */
  readonly length: number;
  /** Local key, u32. */
  readonly lkey: number;
}

/** The data operations a fragment list can be mapped for; of an atomic, the 8 bytes for the old value. */
export type DmaOp = 'send' | 'recv' | 'write' | 'read' | 'atomic';

/** The transport of a device; `@see ibv_query_device(3)`. */
export type Transport = 'ib' | 'iwarp' | 'unknown';

/** A registered region, as far as this layer looks. */
export interface DmaMr {
  readonly addr: number;
  readonly length: number;
  readonly lkey: number;
  readonly rkey: number;
  readonly closed: boolean;
  close(): Promise<void>;
}

/** A registered slab of shared memory. */
export interface DmaSlab {
  readonly mr: DmaMr;
  readonly buffer: ArrayBuffer;
  readonly addr: number;
  readonly length: number;
  close(): Promise<void>;
}

/** A device, as far as this layer looks. */
export interface DmaDevice {
  readonly name: string;
  readonly provider: string;
  readonly transport: Transport;
  readonly caps: {
    /** Regions need not be pinned: their pages may be exchanged under the key (IBV_ACCESS_ON_DEMAND). */
    readonly odp: {
      readonly explicit: boolean;
      /** One region can cover all memory. */
      readonly implicit: boolean;
      readonly rc: {
        readonly send: boolean;
        readonly recv: boolean;
        readonly write: boolean;
        readonly read: boolean;
      };
    };
    /** The device can reach memory of other devices (dma-buf). */
    readonly dmaBuf: boolean;
    /** ATOMIC_CMP_AND_SWP and ATOMIC_FETCH_AND_ADD. */
    readonly hasAtomics: boolean;
    /** SEND_WITH_IMM and RDMA_WRITE_WITH_IMM. */
    readonly immediateData: boolean;
    /** SEND_WITH_INV. */
    readonly sendWithInvalidate: boolean;
  };
}

/** Whether the pages of a region may be exchanged under its key, for every operation of this layer. */
export function pagesOnDemand({ caps }: DmaDevice): boolean {
  const { explicit, rc } = caps.odp;
  return explicit && rc.send && rc.recv && rc.write && rc.read;
}

/** Pages of a slab to be mapped into a window; all three numbers are multiples of the page size, bytes. */
export interface PageLink {
  /** Where in the window. */
  readonly offset: number;
  readonly slab: DmaSlab;
  readonly slabOffset: number;
  readonly length: number;
}

/** Addresses in which pages of slabs are mapped side by side. */
export interface DmaWindow {
  readonly addr: number;
  /** Bytes. */
  readonly length: number;
  readonly closed: boolean;
  /** Maps all of [links], or none and throws. */
  link(links: readonly PageLink[]): void;
  unlink(offset: number, length: number): void;
  register(
    offset: number,
    length: number,
    access: number,
    options?: { readonly wholePages?: boolean },
  ): Promise<DmaMr>;
  close(): void;
}

/** The key of a region over the whole address space (implicit on-demand paging). */
export interface DmaLocalKey {
  readonly lkey: number;
  /** Address of a view's first byte. */
  addressOf(view: Uint8Array): number;
}

/** A protection domain, as far as this layer looks. */
export interface DmaPd {
  readonly device: DmaDevice;
  regMr(memory: ArrayBufferView | ArrayBufferLike, access: number): Promise<DmaMr>;
  allocSlab(bytes: number, access: number, options?: { hugePages?: boolean }): Promise<DmaSlab>;
  /** Closes several regions with one call, where that is possible. */
  deregMrs?(regions: readonly DmaMr[]): Promise<void>;
  /** Where windows can be had. */
  reserveWindow?(bytes: number): DmaWindow;
  /** A region over all memory, where the device has implicit on-demand paging. */
  regImplicitOdp?(access: number): Promise<DmaMr>;
  /** Address of a view's first byte, where it is not the processor's. */
  addressOf?(view: Uint8Array): number;
  /** Registers memory of another device, where that is possible. */
  regDmabufMr?(options: { fd: number; offset: number; length: number; access: number }): Promise<DmaMr>;
}

/** A queue pair, as far as this layer looks. */
export interface DmaQp {
  readonly pd: DmaPd;
  readonly qpNum: number;
  /** pathMtu in bytes, once it is connected. */
  query(): { readonly pathMtu: number | undefined };
  readonly caps: {
    readonly maxSendWr: number;
    readonly maxSendSge: number;
    readonly maxRecvSge: number;
    /** Most SGEs of an RDMA READ. */
    readonly maxReadSge: number;
    /** Bytes. */
    readonly maxInlineData: number;
    /** Bytes of the longest message. */
    readonly maxMessage: number;
  };
}
