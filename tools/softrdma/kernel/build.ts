/** From a source tarball to a kernel. */

import { mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { SoftRdmaError } from '../errors.ts';
import { asset } from '../paths.ts';
import type { OnFraction, Steps } from './step.ts';

/** Part of the cache key: change it when a kernel built here would come out different. */
export const RECIPE = 'HZ=1000 strip 1';

/** How many lines make prints for this configuration (Linux 7.2), for the progress bar alone. */
const EXPECTED_LINES = 1580;

/** Builds a kernel. The default builder; tests give their own. */
export type Builder = (
  tarball: string,
  work: string,
  steps: Steps,
  report: (stage: string, fraction: number) => void,
) => Promise<string>;

/** Unpacks `tarball` below `work`, configures, builds and strips. Resolves to the kernel's path. */
export const buildKernel: Builder = async (tarball, work, steps, report) => {
  const source = join(work, 'source');
  const objects = join(work, 'objects');
  mkdirSync(source);
  mkdirSync(objects);
  const unpacking: OnFraction = (fraction) => report('unpacking', fraction);
  await steps.run('tar', ['-xJ', '-C', source, '--strip-components=1'], {
    input: tarball,
    onFraction: unpacking,
  });
  raiseTimerRate(join(source, 'arch/um/Kconfig'));

  const make = ['ARCH=um', `O=${objects}`];
  report('building', 0);
  const config = `KCONFIG_ALLCONFIG=${asset('soft.config')}`;
  await steps.run('make', [...make, config, 'allnoconfig'], { cwd: source });
  checkConfig(readFileSync(join(objects, '.config'), 'utf8'));
  let lines = 0;
  const onLine = () => report('building', Math.min(0.99, ++lines / EXPECTED_LINES));
  await steps.run('make', [...make, `-j${availableParallelism()}`, 'linux'], { cwd: source, onLine });
  const kernel = join(work, 'linux');
  await steps.run('strip', ['-o', `${kernel}.stripped`, join(objects, 'linux')]);
  renameSync(`${kernel}.stripped`, kernel);
  return kernel;
};

/** With 100 ticks a second, two programs that poll hold both processors for 10 ms at a time. */
function raiseTimerRate(kconfig: string): void {
  const text = readFileSync(kconfig, 'utf8');
  const raised = text.replace(/^(config HZ\n\s+int\n\s+default) 100$/m, '$1 1000');
  if (raised === text) {
    throw new SoftRdmaError(
      'ERR_SOFTRDMA_BUILD',
      `${kconfig} does not say "config HZ ... default 100" as expected`,
    );
  }
  writeFileSync(kconfig, raised);
}

/** Kconfig drops what it cannot satisfy without a word; a kernel without its devices should not be built at all. */
function checkConfig(config: string): void {
  for (const name of [
    '64BIT',
    'SMP',
    'RDMA_RXE',
    'RDMA_SIW',
    'HOSTFS',
    'OVERLAY_FS',
    'UML_NET_VECTOR',
    'SSL',
  ]) {
    if (!config.includes(`CONFIG_${name}=y\n`)) {
      const message = `this kernel source cannot be configured with ${name}. It has to be Linux 6.19 or later.`;
      throw new SoftRdmaError('ERR_SOFTRDMA_BUILD', message);
    }
  }
}
