/** A program for peer.test.ts: one end of a connection, which goes on for ever. */
import { connectTo, keepWriting, parseRemote, serve } from './connection.ts';

const [role, deviceName, host, remoteText] = process.argv.slice(2) as [string, string, string, string];

if (role === 'serve') {
  const server = await serve(deviceName, host, (id) =>
    id.on('established', () => console.log('established')),
  );
  console.log(JSON.stringify(server.remote));
} else {
  const remote = parseRemote(remoteText);
  const { qp, slab } = await connectTo(deviceName, host, remote.port);
  keepWriting(qp, slab.mr, remote, 65_536, ({ completed }) => {
    if (completed === 20) console.log('traffic');
  });
}
