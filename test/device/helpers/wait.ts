const cell = new Int32Array(new SharedArrayBuffer(4));

/** Lets the device work for [ms] milliseconds while the event loop stands still. */
export function holdLoop(ms: number): void {
  Atomics.wait(cell, 0, 0, ms);
}

/** Calls [done] until it is true, without a turn of the event loop; false when it is not within a second or two. */
export function pollUntil(done: () => boolean): boolean {
  for (let i = 0; i < 1000; i += 1) {
    if (done()) return true;
    holdLoop(2);
  }
  return done();
}
