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

/** The data operations a fragment list can be mapped for. */
export type DmaOp = 'send' | 'recv' | 'write' | 'read';

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
}

/** A protection domain, as far as this layer looks. */
export interface DmaPd {
  readonly device: DmaDevice;
  regMr(memory: ArrayBufferView | ArrayBufferLike, access: number): Promise<DmaMr>;
  allocSlab(bytes: number, access: number, options?: { hugePages?: boolean }): Promise<DmaSlab>;
}

/** A queue pair, as far as this layer looks. */
export interface DmaQp {
  readonly pd: DmaPd;
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
