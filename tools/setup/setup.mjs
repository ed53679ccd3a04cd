#!/usr/bin/env node
/**
 * First-run set-up: makes a fresh clone able to run. Every step looks first and does nothing when there is nothing to
 * do, so that it can stand before every command. Plain JavaScript without dependencies: it runs before node_modules is
 * there.
 */
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  realpathSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { BUILD, ensurePackages, HELPER, RUN } from './packages.mjs';

const root = dirname(dirname(dirname(fileURLToPath(import.meta.url))));
const OLDEST_NODE = [20, 19];

/** @param {string} line */
function say(line) {
  process.stderr.write(`setup: ${line}\n`);
}

/**
 * Throws unless this is a Node.js and a system that node-rdma runs on.
 * @param {string} version Such as 20.19.0.
 * @param {string} platform
 */
export function checkHost(version, platform) {
  const [major = 0, minor = 0] = version.split('.').map(Number);
  const [oldestMajor = 0, oldestMinor = 0] = OLDEST_NODE;
  if (major < oldestMajor || (major === oldestMajor && minor < oldestMinor)) {
    throw new Error(`this is Node.js ${version}; node-rdma needs ${OLDEST_NODE.join('.')} or later`);
  }
  if (platform !== 'linux') throw new Error(`this is ${platform}; RDMA verbs are there on Linux only`);
}

/**
 * Runs a program in the package's root; what it prints is shown when it fails, and the failure thrown.
 * @param {string} file
 * @param {string[]} args
 * @param {NodeJS.ProcessEnv} [env]
 */
function run(file, args, env = process.env) {
  const result = spawnSync(file, args, { cwd: root, encoding: 'utf8', env, maxBuffer: 64 * 1024 * 1024 });
  if (result.status === 0) return result.stdout;
  process.stderr.write(`${result.stdout ?? ''}${result.stderr ?? ''}`);
  throw new Error(`${file} ${args.join(' ')} failed: ${result.error?.message ?? `status ${result.status}`}`);
}

/**
 * The regular files below the given paths, sorted.
 * @param {string[]} paths Relative to the root; those that do not exist are left out.
 * @returns {string[]}
 */
function filesBelow(paths) {
  return paths
    .flatMap((path) => {
      const full = join(root, path);
      if (!existsSync(full)) return [];
      if (!statSync(full).isDirectory()) return [path];
      return filesBelow(readdirSync(full).map((name) => join(path, name)));
    })
    .sort();
}

/**
 * A hash of files' names and contents, and of anything else that matters.
 * @param {string[]} files
 * @param {string[]} more
 */
function hashOf(files, more = []) {
  const hash = createHash('sha256');
  for (const file of files) hash.update(`${file}\0`).update(readFileSync(join(root, file)));
  return hash.update(more.join('\0')).digest('hex');
}

/**
 * Does `work` when its inputs are not those it was last done with, or its product is not there.
 * @param {string} stamp Where the inputs' hash is kept, relative to the root.
 * @param {string} product What the work makes.
 * @param {string} hash
 * @param {() => void} work
 */
function unlessDone(stamp, product, hash, work) {
  const file = join(root, stamp);
  if (existsSync(join(root, product)) && existsSync(file) && readFileSync(file, 'utf8') === hash) return;
  work();
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, hash);
}

function installModules() {
  unlessDone('node_modules/.setup-stamp', 'node_modules/.bin/tsc', hashOf(['package-lock.json']), () => {
    say('installing node_modules');
    run('npm', ['ci', '--ignore-scripts', '--no-audit', '--no-fund']);
  });
}

/** Where this Node.js's headers are, if they came with it: node-gyp downloads them otherwise. */
export function headersDir() {
  if (process.env.npm_config_nodedir) return process.env.npm_config_nodedir;
  const prefix = dirname(dirname(realpathSync(process.execPath)));
  const header = join(prefix, 'include', 'node', 'node_version.h');
  if (!existsSync(header)) return undefined;
  const text = readFileSync(header, 'utf8');
  const version = ['MAJOR', 'MINOR', 'PATCH'].map(
    (part) => new RegExp(`#define NODE_${part}_VERSION (\\d+)`).exec(text)?.[1],
  );
  return version.join('.') === process.versions.node ? prefix : undefined;
}

function buildAddon() {
  const inputs = filesBelow(['binding.gyp', 'native']);
  const hash = hashOf(inputs, [process.versions.modules, process.arch]);
  unlessDone('build/.setup-stamp', 'build/Release/node_rdma.node', hash, () => {
    say('building the native addon');
    const headers = headersDir();
    // npm writes its own settings into the environment of what it runs; the directory may be one of them.
    const env = headers ? { ...process.env, npm_config_nodedir: headers } : process.env;
    run(
      process.execPath,
      ['node_modules/node-gyp/bin/node-gyp.js', 'configure', 'build', '--jobs', 'max'],
      env,
    );
  });
}

function compile() {
  const sources = filesBelow(['lib', 'tools', 'examples', 'bench', 'test']).filter((file) =>
    /\.m?[jt]s$/.test(file),
  );
  unlessDone('dist/.setup-stamp', 'dist/tools/softrdma/cli.js', hashOf([...sources, 'tsconfig.json']), () => {
    say('compiling TypeScript');
    run(process.execPath, ['node_modules/typescript/bin/tsc', '-p', 'tsconfig.json']);
  });
}

/** All steps, in order. */
export function setup() {
  checkHost(process.versions.node, process.platform);
  ensurePackages([...BUILD, ...RUN, ...HELPER], say);
  installModules();
  buildAddon();
  compile();
}

if (process.argv[1] && realpathSync(process.argv[1]) === fileURLToPath(import.meta.url)) {
  try {
    setup();
  } catch (error) {
    say(/** @type {Error} */ (error).message);
    process.exitCode = 1;
  }
}
