import { describe, expect, it } from 'vitest';
import { devices } from '../helpers/devices.ts';
import { type Command, example, installed, type Run, serveAndCall } from './programs.ts';

let port = 7500;
const ways = [
  ['ours', 'ours'],
  ['ours', 'theirs'],
  ['theirs', 'ours'],
] as const;

const commands = (name: string, options: readonly string[] = []) => ({
  ours: (...args: string[]): Command => example('cm-tools', name, ...options, ...args),
  theirs: (...args: string[]): Command => installed(name, ...options, ...args),
});

function bothEnd(runs: { server: Run; client: Run }, words: RegExp): void {
  for (const run of [runs.server, runs.client]) {
    expect(run).toMatchObject({ status: 0, output: expect.stringMatching(words) });
  }
}

describe.each(devices)('over $name', ({ name, host }) => {
  it.each(ways)('rdma_server %s, rdma_client %s', async (server, client) => {
    const at = ['-s', host, '-p', String(port++)];
    const runs = await serveAndCall(
      commands('rdma_server')[server](...at),
      commands('rdma_client')[client](...at),
    );
    bothEnd(runs, /end 0/);
  });

  it.each(ways)('ucmatose, server %s, client %s', async (server, client) => {
    const options = ['-c', '3', '-C', '12', '-S', '2000', '-t', '8'];
    const tool = commands('ucmatose', options);
    const at = ['-p', String(port++)];
    // The server of ucmatose sends first, which iWARP forbids (rdma_connect(3)): a message that comes with the answer to the
    // connection request breaks the connection, in C as here (kernel sw/siw/siw_cm.c siw_recv_mpa_rr).
    const attempts = name === 'siw0' ? 5 : 1;
    const runs = await serveAndCall(tool[server]('-b', host, ...at), tool[client]('-s', host, ...at), {
      attempts,
    });
    bothEnd(runs, /data transfers complete/);
  });

  it('ucmatose whose ids move to another event channel', async () => {
    const tool = commands('ucmatose', ['-c', '2', '-m', '-p', String(port++)]);
    const attempts = name === 'siw0' ? 5 : 1;
    const runs = await serveAndCall(tool.ours('-b', host), tool.ours('-s', host), { attempts });
    bothEnd(runs, /data transfers complete/);
  });

  if (name === 'rxe0') {
    it.each(ways)('udaddy, server %s, client %s', async (server, client) => {
      const tool = commands('udaddy', ['-c', '2', '-C', '8', '-S', '500']);
      const runs = await serveAndCall(tool[server]('-b', host), tool[client]('-s', host));
      bothEnd(runs, /data transfers complete/);
    });

    it.each(ways)('mckey, receiver %s, sender %s', async (receiver, sender) => {
      const tool = commands('mckey', ['-m', '239.1.2.3', '-b', host, '-C', '8', '-S', '500']);
      // The C program destroys its queue pair as soon as it has posted: what rxe has not sent by then is lost.
      const runs = await serveAndCall(tool[receiver](), tool[sender]('-s'), { lossy: true });
      bothEnd(runs, /data transfers complete/);
    });
  } else {
    it.each(['udaddy', 'mckey'])('%s is refused: iWARP has no datagrams', async (tool) => {
      const options = tool === 'udaddy' ? ['-b', host] : ['-m', '239.1.2.3', '-b', host];
      const runs = await serveAndCall(example('cm-tools', tool, ...options), ['true']);
      expect(runs.server).toMatchObject({ status: 1, output: expect.stringMatching(/^error: /) });
    });
  }
});
