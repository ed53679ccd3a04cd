/** Shows counters that grow, live in a terminal: totals, and how much per second. */
import { clearScreenDown, cursorTo, moveCursor } from 'node:readline';
import type { WriteStream } from 'node:tty';

const INTERVAL_MS = 1000;
const units = ['', 'k', 'M', 'G', 'T', 'P'];

/** A count in at most six characters: 12, 3.4 k, 120 M. */
export function shortNumber(value: number): string {
  let unit = 0;
  let left = value;
  while (left >= 1000 && unit < units.length - 1) {
    left /= 1000;
    unit++;
  }
  const digits = unit === 0 || left >= 100 ? 0 : 1;
  return `${left.toFixed(digits)}${unit === 0 ? '' : ` ${units[unit]}`}`;
}

/** The lines of a table: name, total, per second. [before] is what it was [seconds] ago. */
export function counterLines(
  now: Readonly<Record<string, number>>,
  before: Readonly<Record<string, number>>,
  seconds: number,
): string[] {
  const width = Math.max(...Object.keys(now).map((name) => name.length));
  return Object.entries(now).map(([name, value]) => {
    const rate = Math.max(0, value - (before[name] ?? 0)) / seconds;
    return `${name.padEnd(width)} ${shortNumber(value).padStart(8)} ${`${shortNumber(rate)}/s`.padStart(10)}`;
  });
}

/** Redraws the counters in place every second until {@link stop}. Where [stream] is no terminal it shows nothing. */
export class CounterView {
  readonly #stream: WriteStream;
  readonly #read: () => Readonly<Record<string, number>>;
  #before: Readonly<Record<string, number>>;
  #drawn = 0;
  #timer: NodeJS.Timeout | undefined;

  constructor(read: () => Readonly<Record<string, number>>, stream: WriteStream = process.stdout) {
    this.#stream = stream;
    this.#read = read;
    this.#before = read();
    if (!stream.isTTY) return;
    this.#draw();
    this.#timer = setInterval(() => this.#draw(), INTERVAL_MS).unref();
  }

  #draw(): void {
    const now = this.#read();
    const lines = counterLines(now, this.#before, INTERVAL_MS / 1000);
    this.#before = now;
    if (this.#drawn > 0) moveCursor(this.#stream, 0, -this.#drawn);
    cursorTo(this.#stream, 0);
    clearScreenDown(this.#stream);
    this.#stream.write(`${lines.join('\n')}\n`);
    this.#drawn = lines.length;
  }

  /** Leaves the last state on the screen. */
  stop(): void {
    if (this.#timer === undefined) return;
    clearInterval(this.#timer);
    this.#timer = undefined;
    this.#draw();
  }
}
