/**
 * The properties of the protocol under random input for as long as one likes: `node dist/test/unit/net/fuzz.js 600`. Prints
 * how many inputs each has seen; ends with the first that fails, and how to see it again.
 */
import fc from 'fast-check';
import { properties } from './properties.ts';

const seconds = Number(process.argv[2] ?? 600);
const end = Date.now() + seconds * 1000;
const counts = new Map(properties.map(([name]) => [name, 0]));
const ROUND = 2000;

while (Date.now() < end) {
  for (const [name, property] of properties) {
    await fc.assert(property, {
      numRuns: ROUND,
      seed: (Math.random() * 2 ** 31) | 0,
      interruptAfterTimeLimit: 60_000,
    });
    counts.set(name, counts.get(name)! + ROUND);
  }
}
for (const [name, count] of counts) console.log(`${String(count).padStart(9)}  ${name}`);
