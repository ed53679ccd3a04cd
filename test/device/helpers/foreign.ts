/** The environment for [program]: our own may run under a sanitizer, whose runtime the others are not to get. */
export function environmentOf(program: string): NodeJS.ProcessEnv {
  return program === process.execPath ? process.env : { ...process.env, LD_PRELOAD: undefined };
}
