import { type ChildProcess, spawn } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { pathToFileURL } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { ServerProcess } from '../../../examples/common/server-process.ts';
import { FileClient } from '../../../examples/file-transfer/client.ts';
import { Status } from '../../../examples/file-transfer/protocol.ts';
import { RdmaLink } from '../../../examples/file-transfer/rdma-link.ts';
import { CmId } from '../../../lib/index.ts';
import { devices } from '../helpers/devices.ts';

const MiB = 1024 * 1024;
const limits = { chunkBytes: MiB, depth: 8 };
const built = resolve('dist/examples');
const sizes = [0, 1, 4095, 4097, MiB - 1, MiB, MiB + 1, 40 * MiB + 3];
/** The largest size is five times the memory that the window has. */
const BIG = 192 * MiB;

// Server processes run from dist, so the function that starts them comes from there too.
const { spawnServer } = (await import(
  pathToFileURL(join(built, 'common/server-process.js')).href
)) as typeof import('../../../examples/common/server-process.ts');

let nextPort = 7500;

function hashOf(bytes: Buffer): string {
  return createHash('sha256').update(bytes).digest('hex');
}

/** Runs the command and resolves with its status and what it printed. */
function command(args: readonly string[]): {
  child: ChildProcess;
  done: Promise<{ status: number | null; output: string }>;
} {
  const child = spawn(process.execPath, [join(built, 'file-transfer/cli.js'), ...args], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let output = '';
  child.stdout.on('data', (data: Buffer) => {
    output += data.toString();
  });
  child.stderr.on('data', (data: Buffer) => {
    output += data.toString();
  });
  const done = once(child, 'close').then(([status]) => ({ status: status as number | null, output }));
  return { child, done };
}

/** Resolves when the condition holds. */
async function until(condition: () => boolean, what: string): Promise<void> {
  const start = performance.now();
  while (!condition()) {
    if (performance.now() - start > 20_000) throw new Error(`20 s have passed and still not: ${what}`);
    await sleep(5);
  }
}

describe.each(devices)('file transfer over $name', ({ host }) => {
  const serve = (directory: string, port: number) =>
    spawnServer('file-transfer', [directory, '--host', host, '--port', String(port)]);
  let base: string;
  let root: string;
  let local: string;
  let port: number;
  let server: ServerProcess;

  const connect = async (): Promise<FileClient> =>
    new FileClient(await RdmaLink.connect({ host, port }, limits));
  const visible = (directory: string): string[] => readdirSync(directory).sort();

  beforeAll(async () => {
    base = mkdtempSync(join(tmpdir(), 'file-transfer-'));
    root = join(base, 'served');
    local = join(base, 'local');
    mkdirSync(join(root, 'directory'), { recursive: true });
    mkdirSync(local);
    port = nextPort++;
    server = await serve(root, port);
  });

  afterAll(async () => {
    expect(await server.end()).toBe(0);
    rmSync(base, { recursive: true });
  });

  it.each(sizes)('moves %d bytes both ways', async (size) => {
    const bytes = randomBytes(size);
    const sha256 = hashOf(bytes);
    const source = join(local, 'source');
    writeFileSync(source, bytes);
    const client = await connect();
    for (const hash of ['during', 'after'] as const) {
      expect(await client.put(source, 'stored', { hash })).toMatchObject({ bytes: size, sha256 });
      expect(hashOf(readFileSync(join(root, 'stored')))).toBe(sha256);
      expect(await client.get('stored', join(local, 'got'), { hash })).toMatchObject({ bytes: size, sha256 });
      expect(hashOf(readFileSync(join(local, 'got')))).toBe(sha256);
    }
    await client.close();
  });

  it('refuses names, says why, and goes on', async () => {
    symlinkSync('/etc', join(root, 'etc'));
    writeFileSync(join(root, 'small'), 'small');
    const client = await connect();
    const refused = {
      '../local/source': 'ERR_TRANSFER_NAME',
      '/etc/passwd': 'ERR_TRANSFER_NAME',
      'etc/passwd': 'ERR_TRANSFER_NAME',
      'a\0b': 'ERR_TRANSFER_NAME',
      '': 'ERR_TRANSFER_NAME',
      directory: 'ERR_TRANSFER_NOT_A_FILE',
      missing: 'ERR_TRANSFER_NOT_FOUND',
    };
    for (const [name, code] of Object.entries(refused)) {
      await expect(client.get(name, join(local, 'refused'))).rejects.toMatchObject({ code });
      if (name !== 'missing') {
        await expect(client.put(join(root, 'small'), name)).rejects.toMatchObject({ code });
      }
    }
    expect((await client.get('small', join(local, 'small'))).bytes).toBe(5);
    expect(visible(local)).not.toContain('refused');
    await client.close();
  });

  it('lists the files', async () => {
    writeFileSync(join(root, 'directory', 'listed'), '1234');
    const client = await connect();
    expect(await client.list()).toContainEqual({ name: 'directory/listed', size: 4 });
    await client.close();
  });

  it('says so when nobody listens, or another program does', async () => {
    await expect(RdmaLink.connect({ host, port: 7999 }, limits)).rejects.toMatchObject({
      code: 'ECONNREFUSED',
    });
    const listener = new CmId();
    listener.on('connectRequest', (id) => id.reject(Buffer.from('something else')));
    const other = nextPort++;
    listener.bind({ host, port: other });
    listener.listen();
    await expect(RdmaLink.connect({ host, port: other }, limits)).rejects.toMatchObject({
      code: 'ECONNREFUSED',
    });
    listener.close();
  });

  it('refuses a client of another protocol and goes on', async () => {
    const id = new CmId();
    await id.resolveAddr({ host, port });
    await id.resolveRoute();
    const device = id.device!;
    const pd = device.allocPd();
    const sendCq = device.createCq({ cqe: 256 });
    id.createQp({ pd, sendCq });
    await expect(id.connect({ privateData: Buffer.from('hello?') })).rejects.toMatchObject({
      code: 'ECONNREFUSED',
    });
    sendCq.close();
    await pd.close();
    const client = await connect();
    await client.list();
    await client.close();
  });

  it('serves three clients at once', async () => {
    const bytes = randomBytes(12 * MiB);
    writeFileSync(join(local, 'three'), bytes);
    writeFileSync(join(root, 'three'), bytes);
    const clients = await Promise.all([connect(), connect(), connect()]);
    await Promise.all([
      clients[0]!.get('three', join(local, 'three-a')),
      clients[1]!.put(join(local, 'three'), 'three-b'),
      clients[2]!.get('three', join(local, 'three-c')),
    ]);
    for (const path of [join(local, 'three-a'), join(root, 'three-b'), join(local, 'three-c')]) {
      expect(readFileSync(path).equals(bytes)).toBe(true);
    }
    await Promise.all(clients.map((client) => client.close()));
  });

  it('a file that changes while it is sent fails the get, and leaves nothing', async () => {
    const path = join(root, 'changing');
    writeFileSync(path, randomBytes(24 * MiB));
    const client = await connect();
    let changed = false;
    const onProgress = (): void => {
      if (!changed) writeFileSync(path, randomBytes(24 * MiB));
      changed = true;
    };
    await expect(client.get('changing', join(local, 'changed'), { onProgress })).rejects.toMatchObject({
      code: expect.stringMatching(/^ERR_TRANSFER_(CHANGED|HASH)$/),
    });
    expect(visible(local)).not.toContain('changed');
    await client.close();
  });

  it('a client that sends nonsense is refused in words and disconnected', async () => {
    const link = await RdmaLink.connect({ host, port }, limits);
    const answer = new Promise<Buffer>((resolve) => link.onMessage(resolve));
    // The end of the connection may overtake the completion of this SEND; that the server had it shows in its answer.
    link.send(Buffer.from('nonsense that is long enough for a header')).catch(() => {});
    expect((await answer).readUInt16LE(16)).toBe(Status.PROTOCOL);
    expect(await link.lost).toMatchObject({ code: 'ERR_TRANSFER_LOST' });
    // What it prints comes through a pipe, a little later.
    await until(() => /refused: message starts with/.test(server.output()), 'the refusal is in the log');
  });

  it('a client that is killed in the middle of a put leaves nothing, and others go on', async () => {
    writeFileSync(join(local, 'big'), Buffer.alloc(BIG, 7));
    const { child, done } = command(['put', host, join(local, 'big'), 'killed', '--port', String(port)]);
    const partOf = (): string[] => visible(root).filter((name) => name.startsWith('.rdma-part-'));
    await until(() => partOf().length > 0, 'the put has begun');
    await sleep(100);
    child.kill('SIGKILL');
    await done;
    await until(() => partOf().length === 0, 'the partial file is removed');
    expect(visible(root)).not.toContain('killed');
    const client = await connect();
    await client.list();
    await client.close();
  });

  it('an interrupted client leaves no partial file', async () => {
    writeFileSync(join(root, 'big'), Buffer.alloc(BIG, 7));
    const { child, done } = command(['get', host, 'big', join(local, 'interrupted'), '--port', String(port)]);
    await until(() => visible(local).some((name) => name.startsWith('.rdma-part-')), 'the get has begun');
    child.kill('SIGINT');
    const { status, output } = await done;
    expect(status).toBe(1);
    expect(output).toMatch(/interrupted/);
    expect(visible(local).filter((name) => name.startsWith('.rdma-part-') || name === 'interrupted')).toEqual(
      [],
    );
  });

  it.each(['get', 'put'])(
    'a server that is killed in the middle of a %s is reported at once',
    async (way) => {
      const own = nextPort++;
      const victim = await serve(root, own);
      const path = join(way === 'get' ? root : local, 'big');
      writeFileSync(path, Buffer.alloc(BIG, 7));
      const client = new FileClient(await RdmaLink.connect({ host, port: own }, limits));
      let killedAt = 0;
      const onProgress = (): void => {
        if (killedAt === 0) victim.child.kill('SIGKILL');
        killedAt ||= performance.now();
      };
      const transfer =
        way === 'get'
          ? client.get('big', join(local, 'cut'), { onProgress })
          : client.put(path, 'cut', { onProgress });
      await expect(transfer).rejects.toBeInstanceOf(Error);
      expect(performance.now() - killedAt).toBeLessThan(6000);
      expect(visible(local).filter((name) => name.startsWith('.rdma-part-') || name === 'cut')).toEqual([]);
      expect(visible(root)).not.toContain('cut');
      await client.close();
    },
  );

  it('a put of a killed server is cleaned up by the next one', async () => {
    const client = await connect();
    await client.put(join(local, 'source'), 'next');
    expect(visible(root).filter((name) => name.startsWith('.rdma-part-'))).toEqual([]);
    await client.close();
  });
});
