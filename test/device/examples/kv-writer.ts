/** A client that PUTs long values for ever, to be killed: node kv-writer.js <host> <port> <key> <first number> */
import { KvClient } from '../../../examples/kv/client.ts';
import { makeValue } from './kv-values.ts';

const [host, port, key, first] = process.argv.slice(2);
const client = await KvClient.connect({ host: host!, port: Number(port) });
for (let sequence = Number(first); ; sequence += 4) {
  const puts = [0, 1, 2, 3].map((at) => client.put(key!, makeValue(sequence + at, 700_000)));
  if (sequence === Number(first)) console.log('writing');
  await Promise.all(puts);
}
