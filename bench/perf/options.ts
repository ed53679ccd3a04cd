/** What a measurement is made of, for our program and for its twin in C. */

/** The tests, named as in perftest; event_lat is send_lat that sleeps until there is an event (ibv_rc_pingpong -e). */
export type Test = 'write_bw' | 'read_bw' | 'send_bw' | 'send_lat' | 'write_lat' | 'event_lat';

/**
 * How our program learns that work is done: it polls; the event loop brings it, looking for a while for the next before it
 * sleeps (`busyPoll`); or the loop sleeps until there is some.
 */
export type Mode = 'poll' | 'busy' | 'events';

/** One measurement. Both programs use all of it. */
export interface Cell {
  readonly test: Test;
  /** Bytes of a message. */
  readonly size: number;
  readonly iterations: number;
  /** Work requests in flight. */
  readonly depth: number;
  /** Work requests of one post. */
  readonly list: number;
  /** One work request of so many is signalled. */
  readonly moderation: number;
}

/** What came of one run: bytes and messages per second of a bandwidth test, microseconds one way of a latency test. */
export interface Outcome {
  readonly bytesPerSecond: number;
  readonly messagesPerSecond: number;
  readonly microseconds: number;
}

/** The outcome of [count] messages of [size] bytes in [seconds]. */
export function bandwidthOutcome(size: number, count: number, seconds: number): Outcome {
  const messagesPerSecond = count / seconds;
  return { bytesPerSecond: size * messagesPerSecond, messagesPerSecond, microseconds: Number.NaN };
}

/** The outcome of a latency test whose typical one-way time is [microseconds]. */
export function latencyOutcome(microseconds: number): Outcome {
  return { bytesPerSecond: Number.NaN, messagesPerSecond: 1e6 / microseconds, microseconds };
}

/** Whether [test] measures latencies. */
export function isLatency(test: Test): boolean {
  return test.endsWith('_lat');
}

/** The modes that [test] has. */
export function modesOf(test: Test): readonly Mode[] {
  if (test === 'send_lat' || test === 'write_lat') return ['poll'];
  // Where C sleeps, so do we.
  if (test === 'event_lat') return ['events'];
  return ['poll', 'busy', 'events'];
}
