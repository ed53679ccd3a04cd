/** What a socket does when nothing happens: 'timeout' events, and finding out whether the peer is alive. */

/** Milliseconds of a keep-alive whose delay is not given, as in Linux. */
const KEEP_ALIVE_MS = 7_200_000;

/** Timers of a socket; they do not keep the process alive. @internal */
export class Activity {
  #idle: NodeJS.Timeout | undefined;
  #keepAlive: NodeJS.Timeout | undefined;
  #count = 0;

  /** Something has been sent or received. */
  touch(): void {
    this.#count += 1;
    this.#idle?.refresh();
  }

  /** Calls [elapsed] after [ms] milliseconds without activity, and then again after activity; 0 for never. */
  setTimeout(ms: number, elapsed: () => void): void {
    clearTimeout(this.#idle);
    this.#idle = ms === 0 ? undefined : setTimeout(elapsed, ms).unref();
  }

  /** Calls [probe] after each [ms] milliseconds without activity; 0 for two hours, undefined for never. */
  setKeepAlive(ms: number | undefined, probe: () => void): void {
    clearInterval(this.#keepAlive);
    this.#keepAlive = undefined;
    if (ms === undefined) return;
    let seen = this.#count;
    const look = () => {
      if (seen === this.#count) probe();
      seen = this.#count;
    };
    this.#keepAlive = setInterval(look, ms > 0 ? ms : KEEP_ALIVE_MS).unref();
  }

  stop(): void {
    clearTimeout(this.#idle);
    clearInterval(this.#keepAlive);
  }
}
