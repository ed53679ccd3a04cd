/** Where the kernel's source comes from. */
import { createHash } from 'node:crypto';
import {
  createReadStream,
  createWriteStream,
  existsSync,
  mkdirSync,
  readdirSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { Readable, Transform } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { hasCommand } from '../../setup/packages.mjs';
import { SoftRdmaError } from '../errors.ts';
import type { OnFraction, Steps } from './step.ts';

/** A kernel source that has been fetched: a tarball compressed with xz, and its version, such as 7.2.13. */
export interface FetchedSource {
  version: string;
  tarball: string;
}

/** One place that the source can be had from. */
export interface KernelSource {
  name: string;
  /** Fetches into `work`. Throws when it cannot; the next source is then tried. */
  fetch(work: string, steps: Steps, onFraction: OnFraction): Promise<FetchedSource>;
}

const KEYRING = '/usr/share/keyrings/debian-archive-keyring.gpg';
const DEBIAN = 'http://deb.debian.org/debian';
const KERNEL_ORG = 'https://cdn.kernel.org/pub/linux/kernel/v7.x';
const KERNEL_ORG_VERSION = '7.2.13';

function refuse(message: string): SoftRdmaError {
  return new SoftRdmaError('ERR_SOFTRDMA_SOURCE', message);
}

/**
 * Debian's newest `linux-source-7.*`, from sid, through an apt of our own beside the system's: nothing of the
 * system's package lists changes, and no privilege is needed. apt verifies Debian's signature and the checksums.
 */
export const debianSource: KernelSource = {
  name: 'Debian',
  async fetch(work, steps, onFraction) {
    if (!hasCommand('apt-get') || !hasCommand('dpkg-deb')) throw refuse('there is no apt here');
    if (!existsSync(KEYRING)) throw refuse(`${KEYRING} is missing (package debian-archive-keyring)`);
    const failures: string[] = [];
    for (const mirror of new Set([await systemMirror(steps), DEBIAN])) {
      try {
        return await fromMirror(mirror, join(work, `apt-${failures.length}`), steps, onFraction);
      } catch (error) {
        failures.push(`${mirror}: ${(error as Error).message}`);
      }
    }
    throw refuse(failures.join('\n'));
  },
};

/** The Debian mirror that this machine is set up for, if it is. */
async function systemMirror(steps: Steps): Promise<string> {
  const args = ['indextargets', '--format', '$(REPO_URI)', 'Origin: Debian', 'Created-By: Packages'];
  const output = await steps.run('apt-get', args).catch(() => '');
  const uris = output.split('\n').map((uri) => uri.replace(/\/$/, ''));
  return uris.find((uri) => uri.endsWith('/debian')) ?? DEBIAN;
}

async function fromMirror(
  mirror: string,
  dir: string,
  steps: Steps,
  onFraction: OnFraction,
): Promise<FetchedSource> {
  for (const part of ['lists/partial', 'cache/archives/partial', 'state', 'out']) {
    mkdirSync(join(dir, part), { recursive: true });
  }
  const list = join(dir, 'sources.list');
  writeFileSync(list, `deb [signed-by=${KEYRING}] ${mirror} sid main\n`);
  const own = {
    'Dir::Etc::sourcelist': list,
    'Dir::Etc::sourceparts': '/dev/null',
    'Dir::Etc::preferencesparts': '/dev/null',
    'Dir::State': join(dir, 'state'),
    'Dir::State::Lists': join(dir, 'lists'),
    'Dir::State::status': '/dev/null',
    'Dir::Cache': join(dir, 'cache'),
    // As root, apt would drop to a user who may not write here.
    'APT::Sandbox::User': '',
  };
  const options = Object.entries(own).flatMap(([key, value]) => ['-o', `${key}=${value}`]);
  const code = 'ERR_SOFTRDMA_SOURCE';
  await steps.run('apt-get', [...options, 'update'], { code });
  const found = await steps.run('apt-cache', [...options, 'search', '--names-only', '^linux-source-7\\.'], {
    code,
  });
  const name = found
    .split('\n')
    .map((line) => line.split(' ')[0]!)
    .filter(Boolean)
    .sort((a, b) => a.localeCompare(b, 'en', { numeric: true }))
    .at(-1);
  if (!name) throw refuse('it has no linux-source-7.* package');
  const shown = await steps.run('apt-cache', [...options, 'show', '--no-all-versions', name], { code });
  const size = Number(/^Size: (\d+)$/m.exec(shown)?.[1]);
  const version = /^Version: (?:\d+:)?([\d.]+)/m.exec(shown)?.[1] ?? 'unknown';
  const out = join(dir, 'out');
  const watch = setInterval(() => onFraction(Math.min(1, sizeOf(out) / size)), 250);
  try {
    await steps.run('apt-get', [...options, 'download', name], { cwd: out, code });
  } finally {
    clearInterval(watch);
  }
  const deb = readdirSync(out).find((file) => file.endsWith('.deb'));
  if (!deb) throw refuse(`apt-get download ${name} left no file`);
  await steps.run('dpkg-deb', ['-x', join(out, deb), join(dir, 'unpacked')], { code });
  return { version, tarball: join(dir, 'unpacked/usr/src', `${name}.tar.xz`) };
}

function sizeOf(dir: string): number {
  return readdirSync(dir).reduce(
    (sum, file) => sum + (statSync(join(dir, file), { throwIfNoEntry: false })?.size ?? 0),
    0,
  );
}

/**
 * The tarball from kernel.org. Its SHA-256 must be the one in `NODE_RDMA_KERNEL_SHA256` or, without that, the one in
 * `sha256sums.asc` beside it. The latter is fetched over HTTPS from the same server and its PGP signature is not
 * checked: it proves that the transfer was complete, and the server's identity is only as good as TLS makes it.
 */
export const kernelOrgSource: KernelSource = {
  name: 'kernel.org',
  async fetch(work, steps, onFraction) {
    const file = `linux-${KERNEL_ORG_VERSION}.tar.xz`;
    const expected = process.env.NODE_RDMA_KERNEL_SHA256 || (await publishedSum(file));
    steps.note(`+ fetch ${KERNEL_ORG}/${file}, sha256 ${expected}`);
    const response = await get(`${KERNEL_ORG}/${file}`);
    const size = Number(response.headers.get('content-length'));
    const tarball = join(work, file);
    let done = 0;
    const count = new Transform({
      transform(chunk: Buffer, _encoding, next) {
        done += chunk.length;
        if (size) onFraction(done / size);
        next(null, chunk);
      },
    });
    await pipeline(Readable.fromWeb(response.body! as never), count, createWriteStream(tarball));
    const hash = createHash('sha256');
    await pipeline(createReadStream(tarball), hash);
    const actual = hash.digest('hex');
    if (actual !== expected.toLowerCase()) throw refuse(`${file} has SHA-256 ${actual}, not ${expected}`);
    return { version: KERNEL_ORG_VERSION, tarball };
  },
};

async function publishedSum(file: string): Promise<string> {
  const text = await (await get(`${KERNEL_ORG}/sha256sums.asc`)).text();
  const line = text.split('\n').find((one) => one.endsWith(`  ${file}`));
  if (!line) throw refuse(`sha256sums.asc does not list ${file}`);
  return line.split(' ')[0]!;
}

async function get(url: string): Promise<Response> {
  let response: Response;
  try {
    response = await fetch(url);
  } catch (error) {
    const { message, cause } = error as Error & { cause?: Error };
    throw refuse(`${url}: ${cause?.message ?? message}`);
  }
  if (!response.ok || !response.body) throw refuse(`${url}: ${response.status} ${response.statusText}`);
  return response;
}
