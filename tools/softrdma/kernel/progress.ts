/** What a person sees while the kernel is built. */
import { SingleBar } from 'cli-progress';

/** Told what is going on. */
export interface Progress {
  /** A line of news. */
  say(line: string): void;
  /** How far a stage is: 0 to 1. */
  report(stage: string, fraction: number): void;
  /** No more to come. */
  end(): void;
}

/** How much of the whole each stage takes, about; measured on two processors with a fast network. */
const STAGES = [
  { stage: 'fetching', share: 0.05 },
  { stage: 'unpacking', share: 0.05 },
  { stage: 'building', share: 0.9 },
];

/** How much of the whole is done, in percent, when `stage` is at `fraction`. */
export function percentDone(stage: string, fraction: number): number {
  let before = 0;
  for (const { stage: name, share } of STAGES) {
    if (name === stage) return Math.floor((before + share * fraction) * 100);
    before += share;
  }
  return 0;
}

/** A bar on a terminal; elsewhere, such as in a CI log, a line per stage and quarter. All on standard error. */
export function terminalProgress(out: NodeJS.WriteStream = process.stderr): Progress {
  let bar: SingleBar | undefined;
  let last = '';
  return {
    say(line) {
      bar?.stop();
      bar = undefined;
      out.write(`softrdma: ${line}\n`);
    },
    report(stage, fraction) {
      const percent = percentDone(stage, fraction);
      if (!out.isTTY) {
        const line = `${stage}${fraction > 0 ? ` ${Math.floor(fraction * 4) * 25} %` : ''}`;
        if (line !== last && !line.endsWith(' 0 %')) out.write(`softrdma: ${line}\n`);
        last = line;
        return;
      }
      if (!bar) {
        bar = new SingleBar({
          stream: out,
          format: 'softrdma: {stage} {bar} {percentage} % | {duration_formatted}',
          hideCursor: true,
        });
        bar.start(100, percent, { stage });
      }
      bar.update(percent, { stage });
    },
    end() {
      bar?.stop();
      bar = undefined;
    },
  };
}
