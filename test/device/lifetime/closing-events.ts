/** A program for closing.test.ts: destroys a completion queue whose events have been taken, or wait to be, unacknowledged. */
import { Opcode, SendFlags } from '../../../lib/index.ts';
import { connectedPair } from '../helpers/pair.ts';

const [deviceName] = process.argv.slice(2) as ['rxe0' | 'siw0'];

for (const taken of [1, 2, 63, 64, 65]) {
  const pair = await connectedPair(deviceName);
  const { mr } = await pair.memory(4096);
  const sges = [{ addr: mr.addr, length: 64, lkey: mr.lkey }];
  const read = { opcode: Opcode.RDMA_READ, sges, remoteAddr: mr.addr + 1024, rkey: mr.rkey };
  // One at a time: each completion comes with an event of its own.
  for (let i = 0; i < taken; i += 1) await pair.client.qp.send(read);
  // And one whose event is still in the channel, because the event loop does not turn before the close.
  pair.client.qp.postSend({ ...read, flags: SendFlags.SIGNALED });
  for (const end = performance.now() + 20; performance.now() < end; );
  pair.clientCq.close();
  await pair.close();
  console.log(`closed after ${taken} events`);
}
