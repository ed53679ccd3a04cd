import { once } from 'node:events';
import type { ClientHttp2Session } from 'node:http2';
import { buffer } from 'node:stream/consumers';
import { describe, expect, it } from 'vitest';
import { connect, createSecureServer, createServer } from '../../../../lib/net/adapters/http2.ts';
import { devices } from '../../helpers/devices.ts';
import { pattern } from '../helpers.ts';
import { certificate, closed, listenOn } from './helpers.ts';

async function post(session: ClientHttp2Session, path: string, body: Uint8Array) {
  const stream = session.request({ ':method': 'POST', ':path': path });
  stream.end(body);
  const [headers] = await once(stream, 'response');
  return { status: headers[':status'], body: await buffer(stream) };
}

describe.each(devices)('HTTP/2 on $name', ({ host }) => {
  it.each(['http:', 'https:'])('%s many streams on one connection', async (protocol) => {
    const pems = await certificate(host);
    const server =
      protocol === 'http:'
        ? createServer({}, (request, response) => void request.pipe(response))
        : createSecureServer(pems, (request, response) => void request.pipe(response));
    const port = await listenOn(server, host);
    const session = connect(`${protocol}//${host}:${port}`, protocol === 'http:' ? {} : { ca: pems.cert });
    await once(session, 'connect');
    expect(session.encrypted).toBe(protocol === 'https:');
    const bodies = [0, 1, 70_000, 1_000_000].map((size) => pattern(size));
    const answers = await Promise.all(bodies.map((body, i) => post(session, `/${i}`, body)));
    answers.forEach(({ status, body }, i) => {
      expect(status).toBe(200);
      expect(body.equals(bodies[i]!)).toBe(true);
    });
    session.close();
    await once(session, 'close');
    await closed(server);
  });

  it('an error of the connection is the session’s', async () => {
    const session = connect(`http://${host}:9`);
    expect((await once(session, 'error'))[0]).toMatchObject({ code: 'ECONNREFUSED' });
  });

  it('calls its listener', async () => {
    const server = createServer();
    const port = await listenOn(server, host);
    const session = await new Promise<ClientHttp2Session>((resolve) =>
      connect(`http://${host}:${port}`, {}, resolve),
    );
    session.destroy();
    await closed(server);
  });
});
