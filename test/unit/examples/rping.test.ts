import { randomBytes } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import {
  decodeAdvertisement,
  encodeAdvertisement,
  fillPing,
  pingText,
} from '../../../examples/rping/protocol.ts';

describe('rping messages', () => {
  it('are big-endian as in rping', () => {
    const bytes = encodeAdvertisement({ addr: 0x7f0102030405, rkey: 0xaabbccdd, size: 64 });
    expect(bytes.toString('hex')).toBe('00007f0102030405aabbccdd00000040');
    expect(decodeAdvertisement(bytes)).toEqual({ addr: 0x7f0102030405, rkey: 0xaabbccdd, size: 64 });
  });

  it.each([
    ['short', Buffer.alloc(15)],
    ['size 0', Buffer.alloc(16)],
    ['size beyond 65535', encodeAdvertisement({ addr: 0, rkey: 1, size: 65536 })],
    ['huge address', Buffer.from('ffffffffffffffff0000000100000040', 'hex')],
  ])('%s is refused', (_what, bytes) => expect(() => decodeAdvertisement(bytes)).toThrow(RangeError));

  it('never throw anything else', () => {
    for (let i = 0; i < 1000; i++) {
      try {
        decodeAdvertisement(randomBytes(16));
      } catch (error) {
        expect(error).toBeInstanceOf(RangeError);
      }
    }
  });
});

describe('ping text', () => {
  it('is that of rping', () => {
    const bytes = Buffer.alloc(30);
    fillPing(bytes, 0);
    expect(pingText(bytes)).toBe('rdma-ping-0: ABCDEFGHIJKLMNOP');
    fillPing(bytes, 57);
    expect(pingText(bytes)).toBe('rdma-ping-57: zABCDEFGHIJKLMN');
    fillPing(bytes, 58);
    expect(pingText(bytes)).toBe('rdma-ping-58: ABCDEFGHIJKLMNO');
  });
});
