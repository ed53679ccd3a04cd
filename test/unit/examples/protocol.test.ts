import { randomBytes } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import {
  agree,
  decodeHello,
  decodeRefusal,
  encodeHello,
  encodeRefusal,
} from '../../../examples/file-transfer/hello.ts';
import {
  decodeRequest,
  decodeResponse,
  encodeRequest,
  encodeResponse,
  MAX_CHUNK_BYTES,
  MAX_NAME_BYTES,
  MAX_TEXT_BYTES,
  MESSAGE_BYTES,
  ProtocolError,
  type Request,
  Status,
  TransferError,
} from '../../../examples/file-transfer/protocol.ts';

const requests: Request[] = [
  { kind: 'openGet', tag: 1, hash: 'after', name: 'a/b.bin' },
  { kind: 'openGet', tag: 0xffffffff, hash: 'during', name: 'ü€😀' },
  { kind: 'openPut', tag: 2, hash: 'after', name: 'x'.repeat(MAX_NAME_BYTES), size: Number.MAX_SAFE_INTEGER },
  { kind: 'openList', tag: 3 },
  { kind: 'getChunk', tag: 4, offset: 2 ** 40, length: MAX_CHUNK_BYTES, addr: 2 ** 47, rkey: 0xffffffff },
  { kind: 'putChunk', tag: 5, offset: 0, length: 1, addr: 0, rkey: 0 },
  { kind: 'close', tag: 6, sha256: randomBytes(32) },
  { kind: 'abort', tag: 7 },
  { kind: 'keepAlive', tag: 8 },
];

/** A decoder may throw the protocol error and nothing else. */
function decodesOrRefuses(decode: (bytes: Buffer) => unknown, bytes: Buffer): void {
  try {
    decode(bytes);
  } catch (error) {
    expect(error).toBeInstanceOf(ProtocolError);
  }
}

describe('messages', () => {
  it.each(requests)('$kind goes there and back', (request) => {
    const bytes = encodeRequest(request);
    expect(bytes.length).toBeLessThanOrEqual(MESSAGE_BYTES);
    expect(decodeRequest(bytes)).toEqual(request);
  });

  it('a response goes there and back', () => {
    const response = { tag: 9, status: Status.IO, text: 'größer', size: 77, sha256: randomBytes(32) };
    expect(decodeResponse(encodeResponse(response))).toEqual(response);
  });

  it('cuts a long text between characters', () => {
    const { text } = decodeResponse(
      encodeResponse({ tag: 1, status: Status.IO, text: 'x'.concat('€'.repeat(400)) }),
    );
    expect(text).toBe('x'.concat('€'.repeat(Math.floor((MAX_TEXT_BYTES - 1) / 3))));
  });

  it('refuses to encode a name that is too long', () => {
    const name = 'x'.repeat(MAX_NAME_BYTES + 1);
    expect(() => encodeRequest({ kind: 'openGet', tag: 1, hash: 'after', name })).toThrow(/limit is 1024/);
  });

  it.each(requests)('$kind is refused at every wrong length', (request) => {
    const bytes = encodeRequest(request);
    for (let length = 0; length < bytes.length; length++) {
      expect(() => decodeRequest(bytes.subarray(0, length))).toThrow(ProtocolError);
    }
    expect(() => decodeRequest(Buffer.concat([bytes, Buffer.alloc(1)]))).toThrow(ProtocolError);
  });

  it.each([
    ['magic', 0, 0, /not "NRFT"/],
    ['version', 4, 2, /speaks version 1/],
    ['kind', 5, 99, /unknown kind of message 99/],
    ['reserved', 12, 1, /reserved/],
  ])('refuses a wrong %s', (_field, at, value, message) => {
    const bytes = encodeRequest({ kind: 'abort', tag: 5 });
    bytes[at] = value;
    expect(() => decodeRequest(bytes)).toThrow(message);
  });

  it.each([
    ['offset', 16, 2n ** 53n, /offset is 9007199254740992/],
    ['addr', 24, 2n ** 64n - 1n, /addr is/],
    ['addr + length', 24, 2n ** 53n - 1n, /addr \+ length/],
  ])('refuses a chunk with a wrong %s', (_field, at, value, message) => {
    const bytes = encodeRequest({ kind: 'getChunk', tag: 4, offset: 0, length: 4096, addr: 0, rkey: 1 });
    bytes.writeBigUInt64LE(value, at);
    expect(() => decodeRequest(bytes)).toThrow(message);
  });

  it.each([0, MAX_CHUNK_BYTES + 1, 0xffffffff])('refuses a chunk of %d bytes', (length) => {
    const bytes = encodeRequest({ kind: 'putChunk', tag: 4, offset: 0, length: 1, addr: 0, rkey: 1 });
    bytes.writeUInt32LE(length, 32);
    expect(() => decodeRequest(bytes)).toThrow(/length is/);
  });

  it('refuses a name that is not UTF-8, and says whose request it was', () => {
    const bytes = encodeRequest({ kind: 'openGet', tag: 42, hash: 'after', name: 'abc' });
    bytes[33] = 0xff;
    const error = (() => {
      try {
        return decodeRequest(bytes);
      } catch (thrown) {
        return thrown;
      }
    })();
    expect(error).toBeInstanceOf(ProtocolError);
    expect(error).toMatchObject({ tag: 42, status: Status.PROTOCOL, code: 'ERR_TRANSFER_PROTOCOL' });
  });

  it('survives random bytes and random damage', () => {
    for (let i = 0; i < 5000; i++) {
      const noise = randomBytes(i % 200);
      decodesOrRefuses(decodeRequest, noise);
      decodesOrRefuses(decodeResponse, noise);
      decodesOrRefuses(decodeHello, noise);
      const request = encodeRequest(requests[i % requests.length]!);
      const response = encodeResponse({ tag: i, status: i % 11, text: 'some text' });
      const hello = encodeHello({ chunkBytes: 65536, depth: 4 });
      for (const bytes of [request, response, hello]) {
        bytes[Math.floor(Math.random() * bytes.length)] = Math.floor(Math.random() * 256);
      }
      decodesOrRefuses(decodeRequest, request);
      decodesOrRefuses(decodeResponse, response);
      decodesOrRefuses(decodeHello, hello);
      expect(() => decodeRefusal(noise)).not.toThrow();
    }
  });
});

describe('private data', () => {
  const limits = { chunkBytes: 65536, depth: 4 };

  it('carries the limits, although the transport pads it', () => {
    expect(decodeHello(Buffer.concat([encodeHello(limits), Buffer.alloc(40)]))).toEqual(limits);
  });

  it('is refused from another program', () => {
    expect(() => decodeHello(Buffer.alloc(0))).toThrow(/another program/);
    expect(() => decodeHello(Buffer.from('GET / HTTP/1.1'))).toThrow(/another program/);
  });

  it.each([
    { chunkBytes: 0, depth: 4 },
    { chunkBytes: MAX_CHUNK_BYTES + 1, depth: 4 },
    { chunkBytes: 4096, depth: 0 },
    { chunkBytes: 4096, depth: 100000 },
  ])('refuses limits $chunkBytes x $depth', (wrong) => {
    expect(() => decodeHello(encodeHello(wrong))).toThrow(ProtocolError);
  });

  it('carries the reason of a refusal', () => {
    const refusal = decodeRefusal(
      Buffer.concat([encodeRefusal(new TransferError(Status.BUSY, 'full')), Buffer.alloc(9)]),
    );
    expect(refusal).toMatchObject({ message: 'full', code: 'ERR_TRANSFER_BUSY' });
    expect(decodeRefusal(undefined)).toBeUndefined();
    expect(encodeRefusal(new TransferError(Status.BUSY, 'x'.repeat(500))).length).toBeLessThanOrEqual(148);
  });

  it('agrees on the lower limits', () => {
    expect(agree({ chunkBytes: 4096, depth: 9 }, { chunkBytes: 8192, depth: 3 })).toEqual({
      chunkBytes: 4096,
      depth: 3,
    });
  });
});
