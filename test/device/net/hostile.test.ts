import { once } from 'node:events';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { CmId } from '../../../lib/index.ts';
import { connect, type RdmaServer, type RdmaSocket } from '../../../lib/net/index.ts';
import { Control, MessageType, putSge, SGE_BYTES } from '../../../lib/net/wire/index.ts';
import { devices } from '../helpers/devices.ts';
import { allOf, listening, pattern } from './helpers.ts';
import { HostilePeer, hello, plausible } from './hostile.ts';

const { DATA, SGL, CTRL, IOMAP } = MessageType;
const range = { addr: 0x10_0000, key: 1, length: 2 };

function changed(at: number, ...bytes: number[]): Uint8Array {
  const data = hello();
  data.set(bytes, at);
  return data;
}

/** Private data, and what is said of them. */
const refused: readonly [string, Uint8Array, RegExp][] = [
  ['garbage', pattern(56), /version \d+|EPROTO|connection data/],
  ['nothing', new Uint8Array(0), /connection data|version 0/],
  ['half of it', hello().subarray(0, 20), /connection data/],
  ['another version', changed(0, 2), /version 2/],
  ['unknown flags', changed(1, 0x80), /flags 0x80/],
  ['no credits', hello({ credits: 0 }), /no credits/],
  ['a huge SGL', hello({ targetSgl: { ...range, length: 0xffff_ffff } }), /4294967295 entries/],
  ['an SGL of one entry', hello({ targetSgl: { ...range, length: 1 } }), /SGL of 1 entries/],
  ['an SGL beyond all addresses', changed(8, 0xff, 0xff), /target SGL at 0xffff/],
  ['a buffer of 0 bytes', hello({ dataBuffer: { ...range, length: 0 } }), /0 bytes/],
  ['a buffer beyond all addresses', changed(24, 0xff, 0xff), /receive buffer at 0xffff/],
];

/** Few credits, and nothing taken from the receive buffer that nobody reads. */
const options = { allowHalfOpen: true, receiveQueueSize: 32, readableHighWaterMark: 1 };

describe.each(devices)('hostile peers on $name', (device) => {
  const { host } = device;
  let server: RdmaServer;
  let port: number;
  let accepted: RdmaSocket[];

  beforeEach(async () => {
    accepted = [];
    ({ server, port } = await listening(host, options, (socket) => {
      accepted.push(socket);
    }));
  });

  afterEach(async () => {
    server.removeAllListeners('drop').removeAllListeners('connection');
    server.on('connection', (socket) => socket.pipe(socket));
    // Whatever has happened: the next one is served.
    const socket = connect({ host, port });
    socket.end('still here');
    expect((await allOf(socket)).toString()).toBe('still here');
    server.closeAllConnections();
    await server[Symbol.asyncDispose]();
  });

  it.each(refused)('are refused with %s as private data', async (_name, privateData, text) => {
    const dropped = once(server, 'drop');
    await expect(HostilePeer.connect(device, port, privateData)).rejects.toMatchObject({
      code: 'ECONNREFUSED',
    });
    const [event] = await dropped;
    expect(event.reason).toMatchObject({ code: 'EPROTO', message: expect.stringMatching(text) });
    expect(event.remoteAddress).toBe(host);
    expect(accepted).toEqual([]);
  });

  /** What a peer says that has connected properly, and what is said of it. */
  const said: readonly [string, (peer: HostilePeer) => void, RegExp][] = [
    ['a transfer of 0 bytes', (peer) => peer.say([DATA, 0]), /0 bytes/],
    ['an unknown message', (peer) => peer.say([2, 5]), /unknown type 2/],
    ['an unknown control message', (peer) => peer.say([CTRL, 77]), /control message 77/],
    ['an iomap entry that there is not', (peer) => peer.say([IOMAP, 0]), /iomap entry 0/],
    ['credits beyond 17 bits', (peer) => peer.say([SGL, 0x2_0000]), /credits up to message 131072/],
    [
      'more credits than it has',
      (peer) => peer.say([SGL, plausible.credits + 1]),
      /of a receive queue of 100/,
    ],
    ['credits that go back', (peer) => peer.say([SGL, 0xffff]), /of a receive queue of 100/],
    [
      'data after shutdown',
      (peer) => peer.say([CTRL, Control.SHUTDOWN], [DATA, 1]),
      /after the end|brought 0/,
    ],
    ['data after disconnect', (peer) => peer.say([CTRL, Control.DISCONNECT], [DATA, 1]), /after the end/],
  ];

  it.each(said)('are reset for %s', async (_name, act, text) => {
    const { peer } = await HostilePeer.connect(device, port);
    if (accepted.length === 0) await once(server, 'connection');
    const [socket] = accepted as [RdmaSocket];
    const failed = once(socket, 'error');
    const closed = new Promise((resolve) => socket.once('close', resolve));
    act(peer);
    const [error] = await failed;
    expect(error).toMatchObject({ code: 'EPROTO', message: expect.stringMatching(text) });
    expect(await closed).toBe(true);
    await peer.ended;
    peer.close();
  });

  it('are reset for more messages than they have credits for', async () => {
    // Nothing is read, or the peer would have its credits back.
    server.on('connection', (socket) => socket.pause());
    const { peer, answer } = await HostilePeer.connect(device, port);
    if (accepted.length === 0) await once(server, 'connection');
    const [socket] = accepted as [RdmaSocket];
    const failed = once(socket, 'error');
    const one = new Uint8Array(1);
    const { addr, key } = answer.dataBuffer;
    for (let i = 0; i < answer.credits + 1; i += 1) peer.write(one, addr + i, key, [DATA, 1]);
    expect((await failed)[0]).toMatchObject({
      code: 'EPROTO',
      message: expect.stringMatching('one message more'),
    });
    expect(socket.bytesRead).toBe(0);
    await peer.ended;
    peer.close();
  });

  it('are reset for a transfer beyond what was granted', async () => {
    const { peer, answer } = await HostilePeer.connect(device, port);
    if (accepted.length === 0) await once(server, 'connection');
    const [socket] = accepted as [RdmaSocket];
    const failed = once(socket, 'error');
    const { addr, key, length } = answer.dataBuffer;
    peer.write(new Uint8Array(length + 1), addr, key, [DATA, length + 1]);
    expect((await failed)[0]).toMatchObject({ code: 'EPROTO', message: expect.stringMatching('room for') });
    await peer.ended;
    peer.close();
  });

  it('are reset for a receive buffer beyond all addresses', async () => {
    const { peer, answer } = await HostilePeer.connect(device, port);
    if (accepted.length === 0) await once(server, 'connection');
    const [socket] = accepted as [RdmaSocket];
    const failed = once(socket, 'error');
    const entry = new Uint8Array(SGE_BYTES);
    putSge(new DataView(entry.buffer), 0, true, 2 ** 53 - 1, 1, 0xffff_ffff);
    const { addr, key } = answer.targetSgl;
    peer.write(entry, addr + SGE_BYTES, key, [SGL, plausible.credits]);
    expect((await failed)[0]).toMatchObject({ code: 'EPROTO', message: expect.stringMatching('addresses') });
    await peer.ended;
    peer.close();
  });

  it('can not write outside of the receive buffer', async () => {
    const { peer, answer } = await HostilePeer.connect(device, port);
    if (accepted.length === 0) await once(server, 'connection');
    const [socket] = accepted as [RdmaSocket];
    const failed = once(socket, 'error');
    const { addr, key } = answer.targetSgl;
    const status = new Promise<number>((resolve) => {
      const mr = peer.pd.regMrSync(new Uint8Array(64), 1);
      const sges = [{ addr: mr.addr, length: 64, lkey: mr.lkey }];
      const remoteAddr = addr + 4096;
      peer.qp.postSend({ opcode: 0, remoteAddr, rkey: key, sges, flags: 2 }, (status) => resolve(status));
    });
    // On siw the write has been handed to TCP before it is refused; then the connection ends.
    if (device.name === 'rxe0') {
      expect(await status).not.toBe(0);
      peer.id.disconnect().catch(() => undefined);
    }
    expect((await failed)[0].code).toBe('ECONNRESET');
    peer.close();
  });

  it('are refused by clients, as servers', async () => {
    const listener = new CmId();
    listener.bind({ host, port: 0 });
    listener.listen();
    const socket = connect({ host, port: listener.localAddress!.port });
    const failed = once(socket, 'error');
    const peer = await HostilePeer.accept(device, listener, changed(0, 7));
    expect((await failed)[0]).toMatchObject({ code: 'EPROTO', message: expect.stringMatching('version 7') });
    await peer.ended;
    peer.close();
    listener.close();
  });
});
