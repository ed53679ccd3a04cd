/** Writes the pictures of docs/dma.md: `npm run docs:pictures`. A test says when they are not up to date. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { packageRoot } from '../softrdma/paths.ts';
import { scenes } from './scenes.ts';
import { draw } from './svg.ts';

/** Where the pictures are. */
export const picturesDir = join(packageRoot, 'docs', 'images');

/** File names and contents of all pictures. */
export function pictures(): [file: string, svg: string][] {
  return scenes.map((scene) => [`dma-${scene.name}.svg`, draw(scene)]);
}

if (process.argv[1]?.endsWith('pictures.js')) {
  mkdirSync(picturesDir, { recursive: true });
  for (const [file, svg] of pictures()) writeFileSync(join(picturesDir, file), svg);
}
