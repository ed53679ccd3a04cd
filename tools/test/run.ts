/**
 * `npm test`: the host's suites here, the devices' suites inside softrdma (or on this machine's own devices), one
 * total at the end. Arguments: `--device host`, `--only host|device`, and patterns of test files.
 */
import { Command, Option } from 'commander';
import { buildCoreTests, sanitizers } from './native.ts';
import { NONE, runSome, runWhole, sum, summary } from './suite.ts';
import type { Project } from './vitest.ts';

/** The suite that runs the core's own tests, which have to be built. */
const CORE_TESTS = 'test/device/native/core.test.ts';

function isWanted(file: string, patterns: readonly string[]): boolean {
  return patterns.length === 0 || patterns.some((pattern) => file.includes(pattern));
}

async function main(patterns: readonly string[], options: { device: string; only?: Project }): Promise<void> {
  const run = patterns.length === 0 ? runWhole : runSome;
  let total = NONE;
  for (const project of options.only ? [options.only] : (['host', 'device'] as const)) {
    if (project === 'device' && isWanted(CORE_TESTS, patterns)) sanitizers.forEach(buildCoreTests);
    total = sum(total, await run(project, options.device, patterns));
  }
  process.stdout.write(`${summary(total)}\n`);
  if (total.failed > 0 || total.passed === 0) process.exitCode = 1;
}

await new Command('npm test --')
  .argument('[patterns...]', 'run only test files whose path contains one of these')
  .addOption(
    new Option('--device <where>', 'where the devices are').choices(['soft', 'host']).default('soft'),
  )
  .addOption(new Option('--only <suites>', 'run only these suites').choices(['host', 'device']))
  .action(main)
  .parseAsync();
