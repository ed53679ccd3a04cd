/** Draws the scenes of docs/dma.md as SVG. */
import type { Box, Look, Scene } from './scenes.ts';

const WIDTH = 760;
const COLUMN = { width: 200, at: [20, 280, 540] } as const;
const PART = 26;
const TOP = 66;
const GAP = 30;
const headings = ['memory', '', 'work requests'] as const;

/** Readable on light and dark pages. */
const style = `
    text { font: 13px sans-serif; fill: #24292f }
    .title { font-weight: bold; font-size: 15px }
    .note { font-size: 11px; fill: #6e7781 }
    .keyed { fill: #b6e3ff; stroke: #0969da }
    .foreign { fill: #eaeef2; stroke: #6e7781 }
    .made { fill: #fff8c5; stroke: #9a6700 }
    .wr { fill: #dafbe1; stroke: #1a7f37 }
    .part { fill: #24292f }
    .dma { fill: none; stroke: #0969da; stroke-width: 1.5 }
    .copy { fill: none; stroke: #bc4c00; stroke-width: 1.5; stroke-dasharray: 5 3 }
    .head-dma { fill: #0969da }
    .head-copy { fill: #bc4c00 }
    @media (prefers-color-scheme: dark) {
      text { fill: #e6edf3 }
      .note { fill: #8d96a0 }
    }`;

interface Spot {
  readonly column: number;
  readonly y: number;
}

const escaped = (text: string): string => text.replaceAll('&', '&amp;').replaceAll('<', '&lt;');

/** The picture of a scene. */
export function draw({ title, columns, arrows, cost }: Scene): string {
  const shapes: string[] = [];
  const spots = new Map<string, Spot>();
  const tallest = Math.max(...columns.map((boxes) => heightOf(boxes)));
  for (const [column, boxes] of columns.entries()) {
    let y = TOP + (tallest - heightOf(boxes)) / 2;
    for (const [index, box] of boxes.entries()) {
      drawBox(shapes, column, y, box);
      for (const part of box.parts.keys()) {
        spots.set(`${column}.${index}.${part}`, { column, y: y + part * PART + PART / 2 });
      }
      y += box.parts.length * PART + GAP;
    }
  }
  for (const { from, to, copy } of arrows) {
    shapes.push(drawArrow(spots.get(from)!, spots.get(to)!, copy === true ? 'copy' : 'dma'));
  }
  const labels = headings
    .filter((_, column) => columns[column]!.length > 0)
    .map((text) => label(COLUMN.at[headings.indexOf(text)]!, TOP - 12, text, 'note'));
  const height = TOP + tallest + 40;
  const legend = 'Dashed: the CPU copies; solid: the device reaches.';
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" role="img" aria-label="${escaped(title)}">
  <style>${style}
  </style>
  <defs>
    ${head('dma')}
    ${head('copy')}
  </defs>
  ${[label(20, 26, title, 'title'), ...labels, ...shapes, label(20, height - 24, `${cost}.`, 'note'), label(20, height - 8, legend, 'note')].join('\n  ')}
</svg>
`;
}

function heightOf(boxes: readonly Box[]): number {
  return boxes.reduce((sum, { parts }) => sum + parts.length * PART + GAP, 0);
}

function drawBox(shapes: string[], column: number, y: number, { look, parts, note }: Box): void {
  const x = COLUMN.at[column]!;
  for (const [i, text] of parts.entries()) {
    const top = y + i * PART;
    shapes.push(rectangle(x, top, look), label(x + 10, top + 18, text, 'part'));
  }
  if (note !== undefined) shapes.push(label(x, y + parts.length * PART + 13, note, 'note'));
}

function rectangle(x: number, y: number, look: Look): string {
  return `<rect class="${look}" x="${x}" y="${y}" width="${COLUMN.width}" height="${PART}" rx="3"/>`;
}

function label(x: number, y: number, text: string, kind: string): string {
  return `<text class="${kind}" x="${x}" y="${y}">${escaped(text)}</text>`;
}

function drawArrow(from: Spot, to: Spot, kind: 'dma' | 'copy'): string {
  const right = to.column > from.column;
  const start = COLUMN.at[from.column]! + (right ? COLUMN.width : 0);
  const end = COLUMN.at[to.column]! + (right ? 0 : COLUMN.width);
  const bend = (start + end) / 2;
  const path = `M ${start} ${from.y} C ${bend} ${from.y}, ${bend} ${to.y}, ${end} ${to.y}`;
  return `<path class="${kind}" d="${path}" marker-end="url(#${kind})"/>`;
}

function head(kind: string): string {
  return `<marker id="${kind}" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" markerHeight="8" orient="auto"><path class="head-${kind}" d="M 0 0 L 8 4 L 0 8 z"/></marker>`;
}
