import { describe, expect, it } from 'vitest';
import { formatGuid } from '../../../lib/verbs/device-attr.ts';
import { formatGid } from '../../../lib/verbs/gid.ts';

const bytes = (hex: string) => Uint8Array.from(Buffer.from(hex.replaceAll(' ', ''), 'hex'));

describe('formatGid', () => {
  it.each([
    ['00000000 00000000 00000000 00000000', '::'],
    ['00000000 00000000 00000000 00000001', '::1'],
    ['fe800000 00000000 000000ff fe010001', 'fe80::ff:fe01:1'],
    ['fe800000 00000000 00000000 00000000', 'fe80::'],
    ['00000000 00000000 0000ffff 0a000101', '::ffff:10.0.1.1'],
    ['20010db8 00000000 00010000 00000001', '2001:db8::1:0:0:1'],
    ['20010db8 00010000 00010001 00010001', '2001:db8:1:0:1:1:1:1'],
    ['00010000 00000002 00000000 00000003', '1:0:0:2::3'],
    ['02000002 00010000 00000000 00000000', '200:2:1::'],
  ])('%s is %s', (hex, text) => {
    expect(formatGid(bytes(hex))).toBe(text);
  });

  it('reads a view from where it begins', () => {
    const buffer = Buffer.alloc(20);
    buffer[19] = 1;
    expect(formatGid(buffer.subarray(4))).toBe('::1');
  });
});

describe('formatGuid', () => {
  it.each([
    [0x0002c903002f7a1en, '0002:c903:002f:7a1e'],
    [0n, '0000:0000:0000:0000'],
    [2n ** 64n - 1n, 'ffff:ffff:ffff:ffff'],
  ])('%d is %s', (guid, text) => {
    expect(formatGuid(guid)).toBe(text);
  });
});
