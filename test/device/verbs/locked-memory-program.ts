/** Registers more memory than this process may lock, as program.js device bytes, and prints the error. */
import { addressOf, openDevice, RdmaError } from '../../../lib/index.ts';

const [name, bytes] = process.argv.slice(2) as [string, string];
const pd = openDevice(name).allocPd();
const memory = new Uint8Array(1 << 20);
const length = Number(bytes);
// The limit is looked at before the pages, so that not all of them need to be there.
await pd.regMrFromAddress({ address: addressOf(memory), length, access: 0, keep: memory }).then(
  () => console.log('registered'),
  (error: unknown) => {
    if (!(error instanceof RdmaError)) throw error;
    console.log(`${error.syscall} ${error.code} ${error.message}`);
  },
);
