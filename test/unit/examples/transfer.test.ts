/** The client and the server's session, over a link without a device. */
import { createHash, randomBytes } from 'node:crypto';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { FileClient } from '../../../examples/file-transfer/client.ts';
import {
  decodeResponse,
  encodeRequest,
  encodeResponse,
  type Response,
  Status,
} from '../../../examples/file-transfer/protocol.ts';
import { Session } from '../../../examples/file-transfer/session.ts';
import { MemoryLink } from './memory-link.ts';

const CHUNK = 8192;
const DEPTH = 4;
const sizes = [0, 1, 4095, 4097, CHUNK - 1, CHUNK, CHUNK + 1, CHUNK * DEPTH, 10 * CHUNK * DEPTH + 5];

let base: string;
let root: string;
let local: string;
let log: string[];

beforeEach(() => {
  base = realpathSync(mkdtempSync(join(tmpdir(), 'transfer-')));
  root = join(base, 'served');
  local = join(base, 'local');
  mkdirSync(root);
  mkdirSync(local);
  log = [];
});

afterEach(() => rmSync(base, { recursive: true }));

function start(timeoutMs = 2000) {
  const [near, far] = MemoryLink.pair({ chunkBytes: CHUNK, depth: DEPTH });
  const served = Session.run(far, { root, timeoutMs, sync: false, log: (text) => log.push(text) });
  return { near, far, served };
}

function connect() {
  const ends = start();
  return { ...ends, client: new FileClient(ends.near, { timeoutMs: 1000 }) };
}

function make(
  directory: string,
  name: string,
  size: number,
): { path: string; bytes: Buffer; sha256: string } {
  const path = join(directory, name);
  const bytes = randomBytes(size);
  writeFileSync(path, bytes);
  return { path, bytes, sha256: createHash('sha256').update(bytes).digest('hex') };
}

describe.each(['during', 'after'] as const)('hash %s', (hash) => {
  it.each(sizes)('get and put %d bytes', async (size) => {
    const { client, near, far, served } = connect();
    const { bytes, path, sha256 } = make(root, 'there', size);
    const progress: number[] = [];
    const got = await client.get('there', join(local, 'here'), {
      hash,
      onProgress: (done) => progress.push(done),
    });
    expect(got).toMatchObject({ bytes: size, sha256 });
    expect(readFileSync(join(local, 'here')).equals(bytes)).toBe(true);
    expect(progress.at(-1) ?? 0).toBe(size);
    const put = await client.put(path, 'again', { hash, sync: true });
    expect(put).toMatchObject({ bytes: size, sha256 });
    expect(readFileSync(join(root, 'again')).equals(bytes)).toBe(true);
    expect(near.regions.size).toBe(0);
    await client.close();
    await served;
    expect(far.regions.size).toBe(0);
    expect(readdirSync(root).sort()).toEqual(['again', 'there']);
  });
});

describe('requests', () => {
  it('lists files', async () => {
    const { client } = connect();
    expect(await client.list()).toEqual([]);
    for (let i = 0; i < 500; i++) make(root, `file-${String(i).padStart(3, '0')}`, i);
    const files = await client.list();
    expect(files).toHaveLength(500);
    expect(files[7]).toEqual({ name: 'file-007', size: 7 });
    await client.close();
  });

  it('puts the file into a directory given as destination, and replaces files', async () => {
    const { client } = connect();
    const { bytes } = make(root, 'file', 100);
    make(local, 'file', 5);
    await client.get('file', local);
    expect(readFileSync(join(local, 'file')).equals(bytes)).toBe(true);
    const other = make(local, 'other', 50);
    await client.put(other.path, 'file');
    expect(readFileSync(join(root, 'file')).equals(other.bytes)).toBe(true);
    await client.close();
  });

  it('refuses names and goes on working', async () => {
    const { client } = connect();
    make(root, 'file', 10);
    mkdirSync(join(root, 'directory'));
    const file = make(local, 'mine', 10);
    for (const name of ['', '..', '../local/mine', '/etc/passwd', 'a\0b', 'a//b', 'directory/..']) {
      await expect(client.get(name, local)).rejects.toMatchObject({ code: 'ERR_TRANSFER_NAME' });
      await expect(client.put(file.path, name)).rejects.toMatchObject({ code: 'ERR_TRANSFER_NAME' });
    }
    await expect(client.get('missing', local)).rejects.toMatchObject({ code: 'ERR_TRANSFER_NOT_FOUND' });
    await expect(client.get('directory', local)).rejects.toMatchObject({ code: 'ERR_TRANSFER_NOT_A_FILE' });
    await expect(client.put(file.path, 'directory')).rejects.toMatchObject({
      code: 'ERR_TRANSFER_NOT_A_FILE',
    });
    await expect(client.put(local, 'x')).rejects.toMatchObject({ code: 'ERR_TRANSFER_NOT_A_FILE' });
    await expect(client.put(join(local, 'missing'))).rejects.toMatchObject({ code: 'ENOENT' });
    expect((await client.get('file', join(local, 'got'))).bytes).toBe(10);
    expect(readdirSync(local).sort()).toEqual(['got', 'mine']);
    expect(readdirSync(root).sort()).toEqual(['directory', 'file']);
    await client.close();
  });

  it('refuses a second transfer at the same time', async () => {
    const { client } = connect();
    make(root, 'file', 100000);
    const first = client.get('file', join(local, 'a'));
    await expect(client.get('file', join(local, 'b'))).rejects.toMatchObject({ code: 'ERR_TRANSFER_STATE' });
    await first;
    await client.close();
  });

  it('says when the destination cannot be written, and goes on working', async () => {
    const { client } = connect();
    make(root, 'file', 100000);
    await expect(client.get('file', join(local, 'no', 'such'))).rejects.toMatchObject({ code: 'ENOENT' });
    expect((await client.get('file', local)).bytes).toBe(100000);
    await client.close();
  });
});

describe('files that change', () => {
  it.each([
    ['shorter', (path: string) => truncateSync(path, 50000)],
    ['other bytes', (path: string) => writeFileSync(path, randomBytes(200000))],
  ])('a source that gets %s fails the get', async (_what, change) => {
    const { client } = connect();
    const { path } = make(root, 'file', 200000);
    let changed = false;
    const onProgress = (): void => {
      if (!changed) change(path);
      changed = true;
    };
    await expect(client.get('file', local, { onProgress })).rejects.toMatchObject({
      code: expect.stringMatching(/CHANGED|HASH/),
    });
    expect(readdirSync(local)).toEqual([]);
    await expect(client.get('file', local)).resolves.toBeDefined();
    await client.close();
  });

  it('a source that changes fails the put, and nothing appears', async () => {
    const { client } = connect();
    const { path } = make(local, 'file', 200000);
    const onProgress = (): void => writeFileSync(path, randomBytes(200000));
    await expect(client.put(path, 'file', { onProgress })).rejects.toMatchObject({
      code: 'ERR_TRANSFER_CHANGED',
    });
    expect(readdirSync(root)).toEqual([]);
    await client.close();
  });

  it.each(['during', 'after'] as const)(
    'data damaged on the way fail the transfer (hash %s)',
    async (hash) => {
      const { client, far } = connect();
      make(root, 'file', 100000);
      const mine = make(local, 'mine', 100000);
      far.afterWrite = (arrived) => {
        arrived[10]! ^= 1;
      };
      await expect(client.get('file', join(local, 'got'), { hash })).rejects.toMatchObject({
        code: 'ERR_TRANSFER_HASH',
      });
      far.beforeRdma = (kind) => {
        const region = [...far.other.regions.values()][0]!.bytes;
        if (kind === 'read') region[10]! ^= 1;
      };
      await expect(client.put(mine.path, 'put', { hash })).rejects.toMatchObject({
        code: 'ERR_TRANSFER_HASH',
      });
      expect(readdirSync(local)).toEqual(['mine']);
      expect(readdirSync(root)).toEqual(['file']);
      await client.close();
    },
  );
});

describe('ends of the connection', () => {
  it('a lost connection fails a get at once and leaves no file', async () => {
    const { client, far, served } = connect();
    make(root, 'file', 1000000);
    const got = client.get('file', local, { onProgress: () => void far.close(new Error('cut')) });
    await expect(got).rejects.toThrow('the peer closed the connection');
    await served;
    expect(readdirSync(local)).toEqual([]);
    await expect(client.list()).rejects.toThrow('the peer closed');
  });

  it('a client lost in the middle of a put leaves no file', async () => {
    const { client, near, served } = connect();
    const { path } = make(local, 'file', 1000000);
    const put = client.put(path, 'file', { onProgress: () => void near.close(new Error('cut')) });
    await expect(put).rejects.toThrow('cut');
    await served;
    expect(readdirSync(root)).toEqual([]);
    expect(log.join()).toMatch(/given up/);
  });

  it('a failed RDMA operation ends the session and leaves no file', async () => {
    const { client, far, served } = connect();
    const { path } = make(local, 'file', 1000000);
    far.beforeRdma = () => {
      throw new Error('RETRY_EXC_ERR');
    };
    await expect(client.put(path, 'file')).rejects.toThrow('the peer closed');
    await served;
    expect(readdirSync(root)).toEqual([]);
  });

  it('a silent server is given up', async () => {
    const [near] = MemoryLink.pair({ chunkBytes: CHUNK, depth: DEPTH });
    const client = new FileClient(near, { timeoutMs: 200 });
    await expect(client.list()).rejects.toMatchObject({ code: 'ERR_TRANSFER_LOST' });
  });

  it('a silent client is given up', async () => {
    const { near, served } = start(200);
    near.send(encodeRequest({ kind: 'openPut', tag: 1, hash: 'after', name: 'x', size: 5 }));
    await served;
    expect(readdirSync(root)).toEqual([]);
  });

  it('an idle client stays connected', async () => {
    const { near, served } = start(400);
    const client = new FileClient(near, { timeoutMs: 400 });
    await new Promise((resolve) => setTimeout(resolve, 1200));
    expect(await client.list()).toEqual([]);
    await client.close();
    await served;
  });
});

describe('hostile clients', () => {
  /** Sends requests one by one, each after the answer to the one before, and returns the answers. */
  async function talk(...messages: Buffer[]): Promise<{ responses: Response[]; closed: boolean }> {
    const { near, served } = start();
    const responses: Response[] = [];
    let onAnswer = (): void => {};
    near.onMessage((bytes) => {
      responses.push(decodeResponse(bytes));
      onAnswer();
    });
    for (const message of messages) {
      const answered = new Promise<void>((resolve) => {
        onAnswer = resolve;
      });
      await near.send(message).catch(() => {});
      await Promise.race([answered, near.lost]);
    }
    await Promise.race([near.lost, new Promise((resolve) => setTimeout(resolve, 200))]);
    const closed = near.reason !== undefined;
    await near.close();
    await served;
    return { responses, closed };
  }
  const openPut = encodeRequest({ kind: 'openPut', tag: 1, hash: 'during', name: 'x', size: 3 * CHUNK });
  const chunk = { kind: 'putChunk', tag: 2, offset: 0, length: CHUNK, addr: 0, rkey: 0 } as const;

  it('is told about a broken message and disconnected', async () => {
    const { responses, closed } = await talk(Buffer.from('nonsense'));
    expect(responses).toMatchObject([{ tag: 0, status: Status.PROTOCOL }]);
    expect(closed).toBe(true);
  });

  it.each([
    ['offset with a gap', { ...chunk, offset: 5 }, /next byte is 0/],
    ['longer than agreed', { ...chunk, length: CHUNK + 1 }, /agreed were/],
  ])('%s is refused', async (_what, request, message) => {
    const { responses, closed } = await talk(openPut, encodeRequest(request));
    expect(responses[1]).toMatchObject({
      tag: 2,
      status: Status.PROTOCOL,
      text: expect.stringMatching(message),
    });
    expect(closed).toBe(true);
    expect(readdirSync(root)).toEqual([]);
  });

  it('a chunk beyond the size is refused', async () => {
    const small = encodeRequest({ kind: 'openPut', tag: 1, hash: 'during', name: 'x', size: 10 });
    const { responses } = await talk(small, encodeRequest({ ...chunk, length: 11 }));
    expect(responses[1]).toMatchObject({
      status: Status.PROTOCOL,
      text: expect.stringMatching(/file has 10 bytes/),
    });
  });

  it('a wrong rkey ends the connection only', async () => {
    const { closed } = await talk(openPut, encodeRequest({ ...chunk, rkey: 999999 }));
    expect(closed).toBe(true);
    expect(readdirSync(root)).toEqual([]);
  });

  it('requests out of order are refused and the connection goes on', async () => {
    make(root, 'file', 10);
    const { responses, closed } = await talk(
      encodeRequest(chunk),
      encodeRequest({ kind: 'close', tag: 3, sha256: Buffer.alloc(32) }),
      openPut,
      encodeRequest({ ...chunk, kind: 'getChunk' }),
      encodeRequest({ kind: 'openGet', tag: 4, hash: 'after', name: 'file' }),
      encodeRequest({ kind: 'close', tag: 5, sha256: Buffer.alloc(32) }),
      encodeRequest({ kind: 'openGet', tag: 6, hash: 'after', name: 'file' }),
      encodeRequest({ kind: 'abort', tag: 7 }),
      encodeRequest({ kind: 'abort', tag: 8 }),
    );
    const { STATE, OK } = Status;
    expect(responses.map(({ status }) => status)).toEqual([
      STATE,
      STATE,
      OK,
      STATE,
      STATE,
      STATE,
      OK,
      OK,
      OK,
    ]);
    expect(closed).toBe(false);
    expect(readdirSync(root)).toEqual(['file']);
  });

  it('a wrong hash leaves no file', async () => {
    const empty = encodeRequest({ kind: 'openPut', tag: 1, hash: 'after', name: 'x', size: 0 });
    const { responses } = await talk(
      empty,
      encodeRequest({ kind: 'close', tag: 2, sha256: Buffer.alloc(32) }),
    );
    expect(responses[1]).toMatchObject({ status: Status.HASH, text: expect.stringMatching(/e3b0c44298fc/) });
    expect(readdirSync(root)).toEqual([]);
  });
});

describe('hostile servers', () => {
  it.each([
    ['nonsense', () => Buffer.from('nonsense'), 'ERR_TRANSFER_PROTOCOL'],
    ['an unknown tag', () => encodeResponse({ tag: 12345, status: Status.OK }), 'ERR_TRANSFER_PROTOCOL'],
    [
      'an endless list',
      (tag: number) => encodeResponse({ tag, status: Status.OK, size: 2 ** 50 }),
      'ERR_TRANSFER_PROTOCOL',
    ],
  ])('%s fails the request', async (_what, answer, code) => {
    const [near, far] = MemoryLink.pair({ chunkBytes: CHUNK, depth: DEPTH });
    far.onMessage((bytes) => void far.send(answer(bytes.readUInt32LE(8))).catch(() => {}));
    const client = new FileClient(near, { timeoutMs: 500 });
    await expect(client.list()).rejects.toMatchObject({ code });
    await client.close();
  });

  it('a wrong hash leaves no file', async () => {
    const [near, far] = MemoryLink.pair({ chunkBytes: CHUNK, depth: DEPTH });
    far.onMessage(
      (bytes) => void far.send(encodeResponse({ tag: bytes.readUInt32LE(8), status: Status.OK })),
    );
    const client = new FileClient(near);
    await expect(client.get('x', join(local, 'x'))).rejects.toMatchObject({ code: 'ERR_TRANSFER_HASH' });
    expect(existsSync(join(local, 'x'))).toBe(false);
    expect(readdirSync(local)).toEqual([]);
    await client.close();
  });
});
