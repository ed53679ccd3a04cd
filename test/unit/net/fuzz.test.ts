import fc from 'fast-check';
import { describe, it } from 'vitest';
import { properties } from './properties.ts';

describe('the protocol, whatever comes', () => {
  it.each(properties)('%s', async (_name, property) => {
    await fc.assert(property, { numRuns: 300 });
  });
});
