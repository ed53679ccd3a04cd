/** Programs of the documentation. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import ts from 'typescript';

/** The first TypeScript of [file] after [heading]. */
export function documented(file: string, heading = ''): string {
  const text = readFileSync(file, 'utf8');
  return /```ts\n(.*?)```/s.exec(text.slice(text.indexOf(heading)))?.[1] ?? '';
}

/** Runs a program that imports 'node-rdma'. */
export function runProgram(source: string): { stdout: string; stderr: string; status: number | null } {
  const library = pathToFileURL(resolve('dist/lib/index.js')).href;
  const { outputText } = ts.transpileModule(source.replace("'node-rdma'", `'${library}'`), {
    compilerOptions: { module: ts.ModuleKind.ESNext, target: ts.ScriptTarget.ES2022 },
  });
  const directory = mkdtempSync(join(tmpdir(), 'node-rdma-program-'));
  const file = join(directory, 'program.mjs');
  writeFileSync(file, outputText);
  const { stdout, stderr, status } = spawnSync(process.execPath, [file], {
    encoding: 'utf8',
    timeout: 20_000,
  });
  rmSync(directory, { recursive: true });
  return { stdout, stderr, status };
}
