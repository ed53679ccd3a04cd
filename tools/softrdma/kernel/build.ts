/** From a source tarball to a kernel. */

import { mkdirSync, readFileSync, renameSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { SoftRdmaError } from '../errors.ts';
import { asset } from '../paths.ts';
import { applyPatch, PATCHES } from './patches.ts';
import type { OnFraction, Steps } from './step.ts';

/** Part of the cache key: change it when a kernel built here would come out different. */
export const RECIPE: string = JSON.stringify(['1', PATCHES]);

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
  for (const patch of PATCHES) {
    const done = applyPatch(source, patch);
    steps.note(`patch "${patch.name}": ${done ? 'applied' : 'left out, this source differs from Linux 7.2'}`);
  }

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
