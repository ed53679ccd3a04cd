/** What a person sees of a transfer: a bar on a terminal, a line elsewhere. */
import { Presets, SingleBar } from 'cli-progress';
import type { DmaCounters } from '../../lib/index.ts';
import type { TransferResult } from './client.ts';

const UNITS = ['B', 'kB', 'MB', 'GB', 'TB'];

/** `1500000` as `1.50 MB`: decimal units, three digits. */
export function formatBytes(bytes: number): string {
  let value = bytes;
  let unit = 0;
  while (value >= 999.5 && unit < UNITS.length - 1) {
    value /= 1000;
    unit++;
  }
  return `${unit === 0 ? value : value.toPrecision(3)} ${UNITS[unit]}`;
}

/** Bytes in seconds as a rate. */
export function formatRate(bytes: number, seconds: number): string {
  return `${formatBytes(Math.round(bytes / Math.max(seconds, 1e-6)))}/s`;
}

/** `75` as `1:15`. */
export function formatTime(seconds: number): string {
  if (!Number.isFinite(seconds)) return '-:--';
  const whole = Math.ceil(seconds);
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, '0')}`;
}

/** Shows how far a transfer is. */
export interface Progress {
  update(done: number, size: number): void;
  stop(): void;
}

/** A bar with rate and time left on `stream`, or nothing at all when it is not a terminal. */
export function createProgress(label: string, stream: NodeJS.WriteStream = process.stderr): Progress {
  if (!stream.isTTY) return { update() {}, stop() {} };
  const bar = new SingleBar(
    { format: '{label} {bar} {percentage}% {amount} {rate} {left} left', stream, hideCursor: true, fps: 10 },
    Presets.shades_classic,
  );
  const start = performance.now();
  let started = false;
  return {
    update(done, size) {
      const seconds = (performance.now() - start) / 1000;
      const payload = {
        label,
        amount: formatBytes(done),
        rate: formatRate(done, seconds),
        left: formatTime(((size - done) * seconds) / done),
      };
      if (!started) bar.start(size, 0, payload);
      started = true;
      bar.update(done, payload);
    },
    stop() {
      if (started) bar.stop();
    },
  };
}

/** The closing lines of a transfer. */
export function describeResult(
  what: string,
  { bytes, seconds, verifySeconds, sha256 }: TransferResult,
): string {
  return [
    `${what}: ${formatBytes(bytes)} in ${seconds.toFixed(3)} s = ${formatRate(bytes, seconds)} (file to file)`,
    `SHA-256 of both ends ${sha256} (verified in ${verifySeconds.toFixed(3)} s more)`,
  ].join('\n');
}

/** What the library did on a connection, strategy by strategy: operations and bytes. */
export function describeCounters({ strategies }: DmaCounters): string {
  const used = Object.entries(strategies).filter(([, { ops }]) => ops > 0);
  return used.map(([name, { ops, bytes }]) => `${name} ${ops} (${formatBytes(bytes)})`).join(', ');
}
