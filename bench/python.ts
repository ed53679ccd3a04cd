import { spawnSync } from 'node:child_process';

/** A Python that has pyverbs (python3-pyverbs), if there is one. */
export function findPython(): string | undefined {
  return ['python3', '/usr/bin/python3'].find(
    (python) => spawnSync(python, ['-c', 'import pyverbs.cmid'], { stdio: 'ignore' }).status === 0,
  );
}

export const NO_PYVERBS = 'pyverbs is not here: apt-get install python3-pyverbs';
