/** Counters for people: redrawn in place on a terminal, a line now and then elsewhere. */
import { cursorTo, moveCursor } from 'node:readline';

/** What is shown: names and numbers, or texts. */
export type Figures = Readonly<Record<string, number | string>>;

const UNITS = ['B', 'KiB', 'MiB', 'GiB'];

/** `3145728` as `3 MiB`. */
export function formatBytes(bytes: number): string {
  const unit = Math.min(UNITS.length - 1, Math.floor(Math.log2(Math.max(bytes, 1)) / 10));
  return `${Number((bytes / 1024 ** unit).toFixed(1))} ${UNITS[unit]}`;
}

/** The figures in one line. */
export function formatLine(figures: Figures): string {
  return Object.entries(figures)
    .map(([name, value]) => `${name} ${value}`)
    .join(', ');
}

/** The figures as lines of columns, as wide as the terminal. */
export function formatPanel(figures: Figures, columns: number): string[] {
  const names = Object.entries(figures).map(([name, value]) => `${name} ${value}`);
  const width = Math.max(...names.map(({ length }) => length)) + 3;
  const across = Math.max(1, Math.floor(columns / width));
  const lines: string[] = [];
  for (let at = 0; at < names.length; at += across) {
    lines.push(
      names
        .slice(at, at + across)
        .map((text) => text.padEnd(width))
        .join('')
        .trimEnd(),
    );
  }
  return lines;
}

/** Shows figures until it is stopped, and lines of text above them. */
export class Display {
  readonly #figures: () => Figures;
  readonly #stream: NodeJS.WriteStream;
  readonly #timer: NodeJS.Timeout;
  #drawn = 0;

  /** [intervalMs]: how often; by default twice a second on a terminal, otherwise every ten seconds. */
  constructor(figures: () => Figures, intervalMs?: number, stream: NodeJS.WriteStream = process.stdout) {
    this.#figures = figures;
    this.#stream = stream;
    this.#timer = setInterval(() => this.#show(), intervalMs ?? (stream.isTTY ? 500 : 10_000));
    this.#timer.unref();
  }

  /** Prints a line of text. */
  print(text: string): void {
    this.#erase();
    this.#stream.write(`${text}\n`);
  }

  /** Shows the last figures, which stay. */
  stop(): void {
    clearInterval(this.#timer);
    this.#show();
  }

  #show(): void {
    const figures = this.#figures();
    if (!this.#stream.isTTY) {
      this.#stream.write(`${formatLine(figures)}\n`);
      return;
    }
    this.#erase();
    const lines = formatPanel(figures, this.#stream.columns);
    this.#stream.write(`${lines.join('\n')}\n`);
    this.#drawn = lines.length;
  }

  #erase(): void {
    if (this.#drawn === 0) return;
    moveCursor(this.#stream, 0, -this.#drawn);
    cursorTo(this.#stream, 0);
    this.#stream.write('\x1b[J');
    this.#drawn = 0;
  }
}
