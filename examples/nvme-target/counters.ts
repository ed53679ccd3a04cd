/** What the target does, in numbers that only grow. */
export class Counters {
  /** Hosts' queues open now; the one that goes down, too. */
  queues = 0;
  commands = 0;
  reads = 0;
  writes = 0;
  /** From namespaces to hosts. */
  bytesRead = 0;
  /** From hosts to namespaces. */
  bytesWritten = 0;
  /** Of bytesWritten: those that came within their command. */
  inCapsule = 0;
  flushes = 0;
  /** Commands that ended with another status than success. */
  errors = 0;
  mediaErrors = 0;
}
