/**
 * The system packages that node-rdma needs, found by what they bring (a command, a file) and not by name: any
 * distribution may satisfy them in its own way. Names are Debian's, and apt can be asked to install them.
 */
import { spawnSync } from 'node:child_process';
import { accessSync, constants, existsSync, readdirSync } from 'node:fs';
import { delimiter, join } from 'node:path';

/**
 * @typedef {object} Need
 * @property {string} name What is wanted, as shown in messages.
 * @property {string} debian The Debian package that brings it.
 * @property {string[]} [commands] Commands that must be found.
 * @property {string[]} [files] Files that must exist; one `*` in a directory's place is allowed.
 */

/** What building the native addon takes. @type {Need[]} */
export const BUILD = [
  { name: 'C++ compiler', debian: 'g++', commands: ['g++'] },
  { name: 'make', debian: 'make', commands: ['make'] },
  { name: 'Python (for node-gyp)', debian: 'python3', commands: ['python3'] },
  { name: 'libibverbs headers', debian: 'libibverbs-dev', files: ['/usr/include/infiniband/verbs.h'] },
  { name: 'librdmacm headers', debian: 'librdmacm-dev', files: ['/usr/include/rdma/rdma_cma.h'] },
];

/** What running on soft devices, and talking to the standard tools, takes. @type {Need[]} */
export const RUN = [
  {
    name: 'verbs providers for rxe and siw',
    debian: 'ibverbs-providers',
    files: [
      '/usr/lib/*/libibverbs/librxe-rdmav*.so|/usr/lib64/libibverbs/librxe-rdmav*.so|/usr/lib/libibverbs/librxe-rdmav*.so',
      '/usr/lib/*/libibverbs/libsiw-rdmav*.so|/usr/lib64/libibverbs/libsiw-rdmav*.so|/usr/lib/libibverbs/libsiw-rdmav*.so',
    ],
  },
  { name: 'ip, tc and rdma', debian: 'iproute2', commands: ['ip', 'tc', 'rdma'] },
  { name: 'ibv_devinfo', debian: 'ibverbs-utils', commands: ['ibv_devinfo'] },
  { name: 'rping, rcopy and rstream', debian: 'rdmacm-utils', commands: ['rping', 'rcopy', 'rstream'] },
  { name: 'perftest', debian: 'perftest', commands: ['ib_write_bw'] },
  { name: 'nvme-cli', debian: 'nvme-cli', commands: ['nvme'] },
  { name: 'mkfs.ext4 and fsck.ext4', debian: 'e2fsprogs', commands: ['mkfs.ext4', 'fsck.ext4'] },
  { name: 'fio', debian: 'fio', commands: ['fio'] },
];

/** What compiling the softrdma helper takes. @type {Need[]} */
export const HELPER = [
  { name: 'C compiler', debian: 'gcc', commands: ['cc'] },
  { name: 'C library headers', debian: 'libc6-dev', files: ['/usr/include/stdio.h'] },
];

/** What building the core's own tests takes, and the addon with sanitizers. @type {Need[]} */
export const TEST = [
  { name: 'CMake', debian: 'cmake', commands: ['cmake'] },
  {
    name: 'librspreload.so',
    debian: 'librdmacm1',
    files: [
      '/usr/lib/*/rsocket/librspreload.so|/usr/lib64/rsocket/librspreload.so|/usr/lib/rsocket/librspreload.so',
    ],
  },
  { name: 'curl', debian: 'curl', commands: ['curl'] },
  { name: 'doctest', debian: 'doctest-dev', files: ['/usr/include/doctest/doctest.h'] },
  ...['asan', 'ubsan', 'tsan'].map((name) => ({
    name: `g++'s lib${name}`,
    debian: 'g++',
    files: [`/usr/lib/gcc/*/*/lib${name}.so|/usr/lib64/lib${name}.so*|/usr/lib/lib${name}.so`],
  })),
];

/** What building the softrdma kernel takes. @type {Need[]} */
export const KERNEL = [
  ...HELPER,
  { name: 'gcc', debian: 'gcc', commands: ['gcc', 'ld', 'strip'] },
  { name: 'make', debian: 'make', commands: ['make'] },
  { name: 'flex', debian: 'flex', commands: ['flex'] },
  { name: 'bison', debian: 'bison', commands: ['bison'] },
  { name: 'bc', debian: 'bc', commands: ['bc'] },
  { name: 'perl', debian: 'perl', commands: ['perl'] },
  { name: 'tar and xz', debian: 'xz-utils', commands: ['tar', 'xz'] },
];

/**
 * Whether a program of this name is in PATH, or in the system directories that an ordinary user's PATH lacks.
 * @param {string} name
 * @param {string} [path] In the form of PATH.
 */
export function hasCommand(name, path = process.env.PATH ?? '') {
  const dirs = new Set([...path.split(delimiter), '/usr/sbin', '/usr/bin', '/sbin', '/bin']);
  for (const dir of dirs) {
    try {
      accessSync(join(dir, name), constants.X_OK);
      return true;
    } catch {
      // Not in this one.
    }
  }
  return false;
}

/**
 * Whether one of the alternatives of `pattern` (separated by `|`, with `*` inside a name) exists.
 * @param {string} pattern
 */
export function hasFile(pattern) {
  return pattern.split('|').some((one) => {
    /** @type {string[]} */
    let found = [''];
    for (const part of one.split('/').slice(1)) {
      if (!part.includes('*')) {
        found = found.map((dir) => `${dir}/${part}`).filter((path) => existsSync(path));
        continue;
      }
      const name = new RegExp(`^${part.replaceAll('.', '\\.').replaceAll('*', '.*')}$`);
      found = found.flatMap((dir) => {
        try {
          return readdirSync(dir)
            .filter((entry) => name.test(entry))
            .map((entry) => `${dir}/${entry}`);
        } catch {
          return [];
        }
      });
    }
    return found.length > 0;
  });
}

/**
 * The needs that this machine does not meet.
 * @param {Need[]} needs
 * @param {string} [path] In the form of PATH.
 * @returns {Need[]}
 */
export function missing(needs, path) {
  return needs.filter(
    ({ commands = [], files = [] }) =>
      !commands.every((name) => hasCommand(name, path)) || !files.every(hasFile),
  );
}

/**
 * The command that installs what is missing on Debian, for messages.
 * @param {Need[]} needs
 */
export function installCommand(needs) {
  return `apt-get install -y --no-install-recommends ${packagesOf(needs).join(' ')}`;
}

/** @param {Need[]} needs */
function packagesOf(needs) {
  return [...new Set(needs.map(({ debian }) => debian))];
}

/**
 * Installs what is missing where that can be done without asking: root, and apt. Elsewhere throws an error that names
 * what is missing and the command to run. Does nothing, and takes no time, when nothing is missing.
 * @param {Need[]} needs
 * @param {(line: string) => void} say Told in one line what is about to happen.
 */
export function ensurePackages(needs, say) {
  const wanted = missing(needs);
  if (wanted.length === 0) return;
  const names = wanted.map(({ name }) => name).join(', ');
  if (process.getuid?.() !== 0 || !hasCommand('apt-get')) {
    const how = hasCommand('apt-get')
      ? `Run: sudo ${installCommand(wanted)}`
      : `Install what your distribution calls: ${packagesOf(wanted).join(' ')}`;
    throw new Error(`missing: ${names}.\n${how}`);
  }
  say(`installing ${packagesOf(wanted).join(' ')}`);
  // Waits for another apt, which a fresh machine often has running.
  const lock = ['-o', 'DPkg::Lock::Timeout=300'];
  let log = '';
  for (const args of [['update'], ['install', '-y', '--no-install-recommends', ...packagesOf(wanted)]]) {
    const result = spawnSync('apt-get', [...lock, ...args], {
      encoding: 'utf8',
      env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive' },
      maxBuffer: 64 * 1024 * 1024,
    });
    log += `${result.stdout}${result.stderr}`;
    // An update that fails for one source out of several may still do; the installation will tell.
    if (result.status !== 0 && args[0] === 'install') {
      throw new Error(`${log}\ncould not install ${packagesOf(wanted).join(' ')} (status ${result.status})`);
    }
  }
  const still = missing(wanted);
  if (still.length > 0) {
    throw new Error(`still missing after the installation: ${still.map(({ name }) => name).join(', ')}`);
  }
}
