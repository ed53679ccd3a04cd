/** A program for children.test.ts: lives until it is killed. */
setInterval(() => undefined, 60_000);
