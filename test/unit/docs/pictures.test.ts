import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { strategies } from '../../../lib/dma/transfer.ts';
import { pictures, picturesDir } from '../../../tools/docs/pictures.ts';
import { scenes } from '../../../tools/docs/scenes.ts';
import { packageRoot } from '../../../tools/softrdma/paths.ts';

describe('the pictures of docs/dma.md', () => {
  it.each(pictures())('%s is up to date (npm run docs:pictures)', (file, svg) => {
    expect(readFileSync(join(picturesDir, file), 'utf8')).toBe(svg);
  });

  it('show every strategy, and the page shows every picture', () => {
    expect(scenes.map(({ name }) => name)).toEqual(strategies.slice(1));
    const page = readFileSync(join(packageRoot, 'docs', 'dma.md'), 'utf8');
    const files = readdirSync(picturesDir).filter((file) => file.startsWith('dma-'));
    expect(files.sort()).toEqual(
      pictures()
        .map(([file]) => file)
        .sort(),
    );
    for (const file of files) expect(page).toContain(`images/${file}`);
  });
});
