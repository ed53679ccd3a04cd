import { once } from 'node:events';
import { setTimeout as sleep, setImmediate as turn } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import type { RdmaSocket } from '../../../lib/net/index.ts';
import { devices } from '../helpers/devices.ts';
import { listening } from './helpers.ts';
import { connectTo, readExactly, start } from './programs.ts';

const SYNC = 16;
const MiB = 1024 * 1024;
const sizes = [1, 64, 65536, 1_000_003, 16 * MiB, 64 * MiB] as const;
/** riostream receives the other's sync into the buffer whose last byte it looks at: not a byte that tells a turn. */
const sync = Buffer.alloc(SYNC, 0xff);
let nextPort = 7800;

/** riostream -T v: byte n of a transfer is n modulo 256, but the last one, which tells whose turn it was. */
function transfer(size: number, marker: number): Buffer {
  const bytes = Buffer.alloc(size, Buffer.from(Uint8Array.from({ length: 256 }, (_, i) => i)));
  bytes[size - 1] = marker;
  return bytes;
}

/** Waits until the other side has written the last byte. */
async function written(target: Buffer, marker: number): Promise<void> {
  while (target[target.length - 1] !== marker) await turn();
}

async function answer(socket: RdmaSocket, size: number): Promise<Buffer> {
  const closed = once(socket, 'close');
  const target = Buffer.alloc(size, 0xff);
  const mapping = await socket.direct.map(target);
  await readExactly(socket, SYNC);
  socket.write(sync);
  await written(target, 0);
  await socket.direct.write(transfer(size, 1), 0);
  socket.resume();
  await closed;
  await mapping.close();
  return target;
}

describe.each(devices)('riostream over $name', ({ host }) => {
  it.each(sizes)(
    'as client: %i bytes',
    async (size) => {
      const port = nextPort++;
      let answered: Promise<Buffer> | undefined;
      const options = { iomapSize: 1 };
      const onSocket = (socket: RdmaSocket) => {
        answered = answer(socket, size);
      };
      const { server } = await listening(host, options, onSocket, port);
      const args = ['-p', String(port), '-S', String(size), '-C', '1', '-I', '1', '-T', 'v'];
      const program = start('riostream', ['-s', host, ...args]);
      expect([await program.ended, program.output()]).toEqual([0, expect.not.stringMatching('fail')]);
      expect((await answered)?.equals(transfer(size, 0))).toBe(true);
      await server[Symbol.asyncDispose]();
    },
    180_000,
  );

  it.each(sizes)(
    'as server: %i bytes',
    async (size) => {
      const port = nextPort++;
      const args = ['-p', String(port), '-S', String(size), '-C', '1', '-I', '1', '-T', 'v'];
      const program = start('riostream', ['-b', host, ...args]);
      // It listens first and sets its options, the size of the iomap among them, afterwards.
      await sleep(500);
      const socket = await connectTo(host, port, program, { iomapSize: 1 });
      const target = Buffer.alloc(size, 0xff);
      const mapping = await socket.direct.map(target);
      socket.write(sync);
      await readExactly(socket, SYNC);
      expect(socket.direct.ranges).toEqual([{ offset: 0, length: size }]);
      await socket.direct.write(transfer(size, 0), 0);
      await written(target, 1);
      socket.resume();
      expect([await program.ended, program.output()]).toEqual([0, expect.not.stringMatching('fail')]);
      expect(target.equals(transfer(size, 1))).toBe(true);
      await mapping.close();
      socket.destroy();
    },
    180_000,
  );
});
