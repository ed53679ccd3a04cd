import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import ts from 'typescript';
import { expect, it } from 'vitest';
import { devices } from './helpers/devices.ts';

it.each(devices)('the first program of the README runs on $name', ({ host }) => {
  const source = /```ts\n(.*?)```/s.exec(readFileSync('README.md', 'utf8'))?.[1] ?? '';
  const library = pathToFileURL(resolve('dist/lib/index.js')).href;
  const { outputText } = ts.transpileModule(
    source.replace("'node-rdma'", `'${library}'`).replaceAll('10.0.1.1', host),
    { compilerOptions: { module: ts.ModuleKind.ESNext, target: ts.ScriptTarget.ES2022 } },
  );
  const directory = mkdtempSync(join(tmpdir(), 'node-rdma-readme-'));
  const file = join(directory, 'program.mjs');
  // It goes on listening, as a server does: the test ends it when it has said what it should.
  writeFileSync(file, `${outputText}\nsetTimeout(() => process.exit(0), 500);\n`);
  const result = spawnSync(process.execPath, [file], { encoding: 'utf8', timeout: 20_000 });
  rmSync(directory, { recursive: true });
  expect(result.stdout).toBe('hello over RDMA\n');
  expect(result.status).toBe(0);
});
