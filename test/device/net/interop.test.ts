import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import http from 'node:http';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { RdmaSocket } from '../../../lib/net/index.ts';
import { devices } from '../helpers/devices.ts';
import { allOf, listening, pattern } from './helpers.ts';
import { connectTo, python, readExactly, start } from './programs.ts';

const MiB = 1024 * 1024;
const SYNC = 16;
const md5 = (bytes: Uint8Array) => createHash('md5').update(bytes).digest('hex');
let nextPort = 7700;
let directory: string;

beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'net-interop-'));
});
afterAll(() => rmSync(directory, { recursive: true, force: true }));

/** rstream -T v: byte n of each direction is n modulo 256. */
class Counted {
  readonly #socket: RdmaSocket;
  #sent = 0;
  #received = 0;
  static readonly #bytes = Buffer.from(Uint8Array.from({ length: 65536 + 256 }, (_, i) => i));

  constructor(socket: RdmaSocket) {
    this.#socket = socket;
  }

  async send(length: number): Promise<void> {
    for (let left = length; left > 0; ) {
      const from = this.#sent & 255;
      const count = Math.min(left, 65536);
      this.#sent += count;
      left -= count;
      if (!this.#socket.write(Counted.#bytes.subarray(from, from + count))) await once(this.#socket, 'drain');
    }
  }

  async receive(length: number): Promise<void> {
    for (let left = length; left > 0; ) {
      const count = Math.min(left, 65536);
      const bytes = await readExactly(this.#socket, count);
      const from = this.#received & 255;
      if (!bytes.equals(Counted.#bytes.subarray(from, from + count))) {
        throw new Error(`wrong bytes after ${this.#received}`);
      }
      this.#received += count;
      left -= count;
    }
  }
}

const streams = [
  [1, 50],
  [100, 500],
  [4096, 100],
  [65536, 20],
  [1_000_003, 5],
  [64 * MiB, 1],
] as const;

describe.each(devices)('C programs over $name', ({ host }) => {
  it.each(streams)(
    'rstream as client: %i bytes, %i times',
    async (size, count) => {
      const port = nextPort++;
      let serving: Promise<void> | undefined;
      const { server } = await listening(
        host,
        {},
        (socket) => {
          const counted = new Counted(socket);
          serving = (async () => {
            await counted.receive(SYNC);
            await counted.send(SYNC);
            await counted.receive(size * count);
            await counted.send(size * count);
            socket.end();
            socket.resume();
            await once(socket, 'close');
          })();
        },
        port,
      );
      const options = ['-p', String(port), '-S', String(size), '-C', String(count), '-I', '1', '-T', 'v'];
      const program = start('rstream', ['-s', host, ...options]);
      expect([await program.ended, program.output()]).toEqual([0, expect.not.stringMatching('fail')]);
      await serving;
      await server[Symbol.asyncDispose]();
    },
    180_000,
  );

  it.each(streams)(
    'rstream as server: %i bytes, %i times',
    async (size, count) => {
      const port = nextPort++;
      const options = ['-p', String(port), '-S', String(size), '-C', String(count), '-I', '1', '-T', 'v'];
      const program = start('rstream', ['-b', host, ...options]);
      const socket = await connectTo(host, port, program);
      const counted = new Counted(socket);
      await counted.send(SYNC);
      await counted.receive(SYNC);
      await counted.send(size * count);
      await counted.receive(size * count);
      socket.resume();
      expect([await program.ended, program.output()]).toEqual([0, expect.not.stringMatching('fail')]);
      if (!socket.closed) await once(socket, 'close');
    },
    180_000,
  );

  it('rcopy sends a file to Node', async () => {
    const port = nextPort++;
    const content = pattern(5_000_001);
    const file = join(directory, 'source');
    writeFileSync(file, content);
    const received: Buffer[] = [];
    const { server } = await listening(
      host,
      {},
      async (socket) => {
        for (;;) {
          const header = await readExactly(socket, 16);
          const command = header[1] as number;
          const rest = await readExactly(socket, header.readUInt16LE(2) - 16);
          if (command === 3) received.push(await readExactly(socket, Number(rest.readBigUInt64LE())));
          const answer = Buffer.from(header);
          answer[1] = command | 0x80;
          answer.writeUInt16LE(16, 2);
          answer.writeUInt32LE(0, 4);
          socket.write(answer);
          if (command === 2) break;
        }
        socket.resume();
      },
      port,
    );
    const program = start('rcopy', [file, `${host}:copy`, '-p', String(port)]);
    expect([await program.ended, program.output()]).toEqual([0, expect.stringMatching('5000001 bytes')]);
    expect(md5(Buffer.concat(received))).toBe(md5(content));
    await server[Symbol.asyncDispose]();
  });

  it('Node sends a file to rcopy', async () => {
    const port = nextPort++;
    const content = pattern(5_000_001);
    const path = Buffer.from(`${join(directory, `copy-${port}`)}\0`);
    const program = start('rcopy', ['-p', String(port)]);
    const socket = await connectTo(host, port, program);
    const header = (command: number, length: number, data = 0) => {
      const bytes = Buffer.alloc(16);
      bytes[1] = command;
      bytes.writeUInt16LE(length, 2);
      bytes.writeUInt32LE(data, 4);
      return bytes;
    };
    const answered = async (command: number) => {
      const answer = await readExactly(socket, 16);
      expect([answer[1], answer.readUInt32LE(4)]).toEqual([command | 0x80, 0]);
    };
    socket.write(Buffer.concat([header(1, 16 + path.length, 0o600), path]));
    await answered(1);
    const size = Buffer.alloc(8);
    size.writeBigUInt64LE(BigInt(content.length));
    socket.write(Buffer.concat([header(3, 24), size]));
    socket.write(content);
    await answered(3);
    socket.write(header(2, 16));
    await answered(2);
    socket.end();
    socket.resume();
    await once(socket, 'close');
    expect(md5(readFileSync(path.subarray(0, -1).toString()))).toBe(md5(content));
    program.kill();
    await program.ended;
  });

  it.each([0, 1000, 100_000_000])(
    'curl gets %i bytes from Node',
    async (size) => {
      const body = pattern(size);
      const web = http.createServer((_request, response) => {
        response.setHeader('content-length', body.length);
        response.end(body);
      });
      const { server, port } = await listening(host, {}, (socket) => web.emit('connection', socket));
      const file = join(directory, `curl-${port}`);
      const url = `http://${host}:${port}/`;
      const program = start('curl', ['-sS', '--max-time', '150', '-o', file, url], true);
      expect([await program.ended, program.output()]).toEqual([0, '']);
      if (size > 0) expect(md5(readFileSync(file))).toBe(md5(body));
      await server[Symbol.asyncDispose]();
    },
    180_000,
  );

  it('curl sends 10 MB to Node', async () => {
    const body = pattern(10_000_000);
    const file = join(directory, 'upload');
    writeFileSync(file, body);
    const web = http.createServer(async (request, response) => {
      response.end(md5(await allOf(request)));
    });
    const { server, port } = await listening(host, {}, (socket) => web.emit('connection', socket));
    const program = start('curl', ['-sS', '--max-time', '60', '-T', file, `http://${host}:${port}/`], true);
    expect([await program.ended, program.output()]).toEqual([0, md5(body)]);
    await server[Symbol.asyncDispose]();
  }, 120_000);

  it("gets 0 to 100 MB from Python's http.server", async () => {
    const port = nextPort++;
    const script = resolve('test/device/net/rsocket-http.py');
    const program = start(python(), [script, host, String(port), directory], true);
    for (const size of [0, 1000, 100_000_000]) {
      const body = pattern(size);
      writeFileSync(join(directory, 'body'), body);
      const socket = await connectTo(host, port, program);
      const request = http.get({ path: '/body', createConnection: () => socket });
      const [response] = await once(request, 'response');
      expect(response.statusCode).toBe(200);
      expect(md5(await allOf(response))).toBe(md5(body));
    }
    program.kill();
    await program.ended;
  }, 240_000);
});
