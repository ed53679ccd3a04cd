/** Writes results as JSON and as a plot, into bench/results unless NODE_RDMA_BENCH_RESULTS names another directory. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { arch, cpus, release } from 'node:os';
import { join } from 'node:path';
import * as echarts from 'echarts';
import { packageRoot } from '../tools/softrdma/paths.ts';

/** A bar of a plot. */
export interface Bar {
  readonly name: string;
  readonly value: number;
}

const directory = process.env.NODE_RDMA_BENCH_RESULTS ?? join(packageRoot, 'bench', 'results');

/** The machine that results were taken on. */
function machine(): Record<string, unknown> {
  const [cpu] = cpus();
  return { node: process.version, kernel: release(), arch: arch(), cpu: cpu?.model, cpus: cpus().length };
}

/** Writes `bench/results/NAME.json`; returns its path. */
export function writeJson(name: string, results: unknown): string {
  mkdirSync(directory, { recursive: true });
  const path = join(directory, `${name}.json`);
  const content = { taken: new Date().toISOString(), machine: machine(), results };
  writeFileSync(path, `${JSON.stringify(content, null, 2)}\n`);
  return path;
}

/** Writes `bench/results/NAME.svg`: bars, with a line at 1; returns its path. */
export function writeBars(name: string, title: string, bars: readonly Bar[]): string {
  mkdirSync(directory, { recursive: true });
  const path = join(directory, `${name}.svg`);
  const height = 90 + bars.length * 26;
  const chart = echarts.init(null, null, { renderer: 'svg', ssr: true, width: 900, height });
  chart.setOption({
    animation: false,
    backgroundColor: '#fff',
    title: { text: title },
    grid: { left: 260, right: 60, top: 50, bottom: 30 },
    xAxis: { type: 'value', min: 0 },
    yAxis: { type: 'category', inverse: true, data: bars.map((bar) => bar.name) },
    series: [
      {
        type: 'bar',
        data: bars.map((bar) => (Number.isFinite(bar.value) ? Number(bar.value.toFixed(3)) : 0)),
        label: { show: true, position: 'right' },
        markLine: { silent: true, symbol: 'none', data: [{ xAxis: 1 }] },
      },
    ],
  });
  writeFileSync(path, chart.renderToSVGString());
  chart.dispose();
  return path;
}
