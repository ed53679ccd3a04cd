import { Agent, fetch } from 'undici';
import { describe, expect, it } from 'vitest';
import { createServer } from '../../../../lib/net/adapters/http.ts';
import { createSecureServer } from '../../../../lib/net/adapters/http2.ts';
import { createServer as createHttps } from '../../../../lib/net/adapters/https.ts';
import { connector } from '../../../../lib/net/adapters/undici.ts';
import { devices } from '../../helpers/devices.ts';
import { pattern } from '../helpers.ts';
import { certificate, closed, listenOn } from './helpers.ts';

describe.each(devices)('undici on $name', ({ host }) => {
  it('fetches', async () => {
    const server = createServer((request, response) => void request.pipe(response));
    const port = await listenOn(server, host);
    const dispatcher = new Agent({ connect: connector() });
    const url = `http://${host}:${port}/`;
    for (const size of [1, 3_000_000]) {
      const sent = pattern(size);
      const response = await fetch(url, { dispatcher, method: 'POST', body: sent });
      expect(Buffer.from(await response.arrayBuffer()).equals(sent)).toBe(true);
    }
    await dispatcher.close();
    await closed(server);
  });

  it('fetches with TLS', async () => {
    const pems = await certificate(host);
    const server = createHttps(pems, (_request, response) => response.end('secret'));
    const port = await listenOn(server, host);
    const dispatcher = new Agent({ connect: connector({ tls: { ca: pems.cert } }) });
    expect(await (await fetch(`https://${host}:${port}/`, { dispatcher })).text()).toBe('secret');
    await dispatcher.close();
    await closed(server);
  });

  it('fetches with HTTP/2', async () => {
    const pems = await certificate(host);
    const server = createSecureServer(pems, (request, response) => response.end(request.httpVersion));
    const port = await listenOn(server, host);
    const dispatcher = new Agent({
      allowH2: true,
      connect: connector({ allowH2: true, tls: { ca: pems.cert } }),
    });
    expect(await (await fetch(`https://${host}:${port}/`, { dispatcher })).text()).toBe('2.0');
    await dispatcher.close();
    await closed(server);
  });

  it('says that nobody listens', async () => {
    const dispatcher = new Agent({ connect: connector() });
    await expect(fetch(`http://${host}:7999/`, { dispatcher })).rejects.toMatchObject({
      cause: { code: 'ECONNREFUSED' },
    });
  });
});
