/** Values that tell whether they are whole: a number, and bytes that follow from it. */

/** The value number [sequence]. */
export function makeValue(sequence: number, bytes: number): Buffer {
  const value = Buffer.alloc(Math.max(bytes, 8));
  let state = (sequence * 2654435761 + 1) >>> 0;
  for (let at = 0; at < value.length; at += 4) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    if (at + 4 <= value.length) value.writeUInt32LE(state, at);
  }
  value.writeUInt32LE(sequence, 0);
  return value;
}

/** The number of a value. @throws Error when any byte is another one's */
export function sequenceOf(value: Buffer): number {
  const sequence = value.readUInt32LE(0);
  if (!makeValue(sequence, value.length).equals(value)) {
    throw new Error(`${value.length} bytes of value ${sequence} are not all its own`);
  }
  return sequence;
}
