/** Objects that own a native one. The ownership graph itself is in C++ (native/core/object.h). */
import { addon } from '../addon.ts';
import { closedError } from '../errors.ts';

/** What must happen in JavaScript when a native object has gone, by handle. */
const settlers = new Map<number, () => void>();

/** Open objects by handle; those that have been collected are skipped. */
const open = new Map<number, WeakRef<Owned>>();

const leaks = new FinalizationRegistry<{ handle: number; what: string }>(({ handle, what }) => {
  process.emitWarning(`a ${what} was garbage-collected without close(): it is closed now`, {
    code: 'RDMA_LEAK',
    detail: 'Keep the object and call close(), or declare it with `using`.',
  });
  closeHandle(handle);
});

function closeHandle(handle: number): void {
  settleGone(addon.close(handle));
}

/** Does what must happen when the native objects of these handles have gone. @internal */
export function settleGone(handles: readonly number[]): void {
  for (const gone of handles) {
    const settle = settlers.get(gone);
    settlers.delete(gone);
    open.delete(gone);
    settle?.();
  }
}

/** The open object with [handle]. @internal */
export function objectByHandle(handle: number): Owned | undefined {
  return open.get(handle)?.deref();
}

/** The objects of this thread that are open. @internal */
export function* openObjects(): Generator<Owned> {
  for (const weak of [...open.values()]) {
    const object = weak.deref();
    if (object !== undefined && !object.closed) yield object;
  }
}

/** A handle of a native object. Closing it closes its children first; closing twice does nothing. @internal */
export abstract class Owned {
  /** @internal */
  protected readonly _what: string;
  #handle: number;

  /** @internal */
  constructor(what: string, handle: number) {
    this._what = what;
    this.#handle = handle;
    leaks.register(this, { handle, what }, this);
    const weak = new WeakRef(this);
    open.set(handle, weak);
    settlers.set(handle, () => weak.deref()?._forget());
  }

  /** Runs [settle] when the native object has gone, also when a parent took it along. @internal */
  protected _onGone(settle: () => void): void {
    settlers.set(this.#handle, () => {
      this._forget();
      settle();
    });
  }

  /** The native object's handle. @throws RdmaError ERR_RDMA_CLOSED @internal */
  get _handle(): number {
    if (this.#handle === 0) throw closedError(this._what);
    return this.#handle;
  }

  /** True after {@link close}. */
  get closed(): boolean {
    return this.#handle === 0;
  }

  /** Marks the object as closed, without closing the native one. @internal */
  protected _forget(): number {
    const handle = this.#handle;
    this.#handle = 0;
    leaks.unregister(this);
    return handle;
  }

  /** Closes the object and everything made from it. Idempotent. */
  close(): void {
    if (this.#handle !== 0) closeHandle(this._forget());
  }

  [Symbol.dispose](): void {
    this.close();
  }
}
