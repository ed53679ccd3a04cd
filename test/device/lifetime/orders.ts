/** The orders in which objects can be closed, for closing.test.ts. */

/** Objects that an application closes, and what goes along with each of them. */
export type Closing = Readonly<Record<string, readonly string[]>>;

/**
 * Orders of closing, one for each different effect: permutations that differ only in when something is closed that has gone
 * already count as one, in which that comes right after what took it along.
 */
export function* closingOrders(closing: Closing, done: readonly string[] = []): Generator<string[]> {
  const left = Object.keys(closing).filter((name) => !done.includes(name));
  if (left.length === 0) yield [...done];
  for (const name of left) {
    const along = (closing[name] as readonly string[]).filter((one) => !done.includes(one));
    yield* closingOrders(closing, [...done, name, ...along]);
  }
}
