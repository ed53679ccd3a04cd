/** A timer that starts anew with every activity, and does not keep the process alive. @internal */
export class IdleTimer {
  readonly #timer: NodeJS.Timeout;

  constructor(ms: number, elapsed: () => void) {
    this.#timer = setTimeout(elapsed, ms).unref();
  }

  refresh(): void {
    this.#timer.refresh();
  }

  stop(): void {
    clearTimeout(this.#timer);
  }
}
