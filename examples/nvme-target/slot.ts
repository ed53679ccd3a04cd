/** A place for one command: the memory it arrives in, and how its data comes and goes. */
import type { RwContext, RwOptions, Sge } from '../../lib/index.ts';
import type { DeviceMemory } from './memory.ts';
import type { HostQueue, Request, Taken } from './request.ts';
import { Command, type KeyedSgl, type Sgl, SQE_BYTES } from './wire/command.ts';
import { NvmeError, Status } from './wire/status.ts';

/** Bytes 34:32 of a command: the length of its keyed SGL. */
const LENGTH_DWORD = 8;
const noop = (): void => {};
/** By a region that stays, however short the transfer: copying it would cost more than the rest of the command. */
export const IN_PLACE: RwOptions = { force: 'cachedMr' };

export class Slot implements Request {
  readonly command: Command;
  readonly queue: HostQueue;
  /** For the receive. */
  readonly sges: readonly Sge[];
  readonly #rw: RwContext;
  readonly #memory: DeviceMemory;
  readonly #capsuleData: Uint8Array;
  /** Bytes of data that came with the command. */
  #received = 0;
  #sgl: Sgl | undefined;

  constructor(
    queue: HostQueue,
    rw: RwContext,
    memory: DeviceMemory,
    command: Uint8Array,
    capsuleData: Uint8Array,
  ) {
    this.queue = queue;
    this.#rw = rw;
    this.#memory = memory;
    this.command = new Command(command);
    this.#capsuleData = capsuleData;
    const parts = capsuleData.length === 0 ? [command] : [command, capsuleData];
    this.sges = parts.map((part) => rw.builder.mapSgeSingle(part));
  }

  /** A capsule of [bytes] bytes has arrived. */
  begin(bytes: number): void {
    this.#received = bytes - SQE_BYTES;
    this.#sgl = undefined;
  }

  /** Where the host wants data; undefined when its descriptor says nothing of the kind. */
  get target(): KeyedSgl | undefined {
    try {
      const sgl = this.#data;
      return sgl.kind === 'keyed' ? sgl : undefined;
    } catch {
      return undefined;
    }
  }

  /** Decoded once for a command. @throws NvmeError as {@link Command.sgl} */
  get #data(): Sgl {
    this.#sgl ??= this.command.sgl;
    return this.#sgl;
  }

  expect(bytes: number): void {
    if (bytes === 0 && (this.command.dword(LENGTH_DWORD) & 0xff_ffff) === 0) return;
    const sgl = this.#data;
    if (sgl.length !== bytes) {
      throw new NvmeError(Status.SGL_LENGTH_INVALID, `${sgl.length} bytes, but the command has ${bytes}`);
    }
    this.#checkCapsule(sgl);
  }

  expectAtLeast(bytes: number): void {
    const sgl = this.#data;
    if (sgl.length < bytes) {
      throw new NvmeError(Status.SGL_LENGTH_INVALID, `${sgl.length} bytes, but the command needs ${bytes}`);
    }
    this.#checkCapsule(sgl);
  }

  #checkCapsule(sgl: Sgl): void {
    if (sgl.kind === 'capsule' && sgl.offset + sgl.length > this.#received) {
      throw new NvmeError(
        Status.SGL_OFFSET_INVALID,
        `${sgl.length} bytes at ${sgl.offset} of a capsule with ${this.#received} bytes of data`,
      );
    }
  }

  async take(bytes: number): Promise<Taken> {
    const sgl = this.#data;
    if (sgl.kind === 'capsule') return { bytes: this.#inCapsule(sgl.offset, bytes), release: noop };
    const taken = await this.#memory.take(bytes);
    try {
      await this.#rw.read(taken.bytes, sgl);
      return taken;
    } catch (error) {
      taken.release();
      throw error;
    }
  }

  async takeInto(views: readonly Uint8Array[]): Promise<void> {
    const sgl = this.#data;
    if (sgl.kind === 'keyed') {
      await this.#rw.read(views, sgl, IN_PLACE);
      return;
    }
    let { offset } = sgl;
    for (const view of views) {
      view.set(this.#inCapsule(offset, view.length));
      offset += view.length;
    }
  }

  alloc(bytes: number): Promise<Taken> {
    return this.#memory.take(bytes);
  }

  #inCapsule(offset: number, bytes: number): Uint8Array {
    return this.#capsuleData.subarray(offset, offset + bytes);
  }
}
