import { once } from 'node:events';
import { describe, expect, it } from 'vitest';
import { connect, createServer } from '../../../../lib/net/adapters/tls.ts';
import { devices } from '../../helpers/devices.ts';
import { allOf, pattern } from '../helpers.ts';
import { certificate, closed, listenOn } from './helpers.ts';

describe.each(devices)('TLS on $name', ({ host }) => {
  it.each([1, 5_000_000])('carries %i bytes both ways', async (size) => {
    const pems = await certificate(host);
    const server = createServer({ ...pems, allowHalfOpen: true }, (socket) => void socket.pipe(socket));
    const port = await listenOn(server, host);
    const socket = connect({ host, port, ca: pems.cert, servername: 'rdma.test' });
    await once(socket, 'secureConnect');
    expect(socket.authorized).toBe(true);
    expect(socket.getProtocol()).toBe('TLSv1.3');
    const sent = pattern(size);
    socket.end(sent);
    expect((await allOf(socket)).equals(sent)).toBe(true);
    await closed(server);
  });

  it('a certificate that nobody vouches for is refused by the client', async () => {
    const server = createServer(await certificate(host));
    const port = await listenOn(server, host);
    const [error] = await once(connect({ host, port, servername: 'rdma.test' }), 'error');
    expect(error.code).toBe('DEPTH_ZERO_SELF_SIGNED_CERT');
    await closed(server);
  });

  it('a client that does not speak TLS is a tlsClientError', async () => {
    const { connect: connectPlain } = await import('../../../../lib/net/index.ts');
    const server = createServer(await certificate(host));
    const port = await listenOn(server, host);
    const failed = once(server, 'tlsClientError');
    const socket = connectPlain({ host, port });
    socket.on('error', () => undefined).write('GET / HTTP/1.1\r\n\r\n');
    expect((await failed)[0]).toBeInstanceOf(Error);
    socket.destroy();
    await closed(server);
  });
});
