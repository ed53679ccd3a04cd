import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Access, type CmId, Opcode, type QueuePair } from '../../../lib/index.ts';
import { CmScope, nextEvent, resources } from '../helpers/cm.ts';
import { devices } from '../helpers/devices.ts';
import { rdmaErrorOf } from '../helpers/rejection.ts';

const [rxe, siw] = devices as [(typeof devices)[0], (typeof devices)[0]];
const UDP = { portSpace: 'UDP' } as const;
const GRH = 40;

describe('multicast on rxe0', () => {
  let scope: CmScope;
  beforeEach(() => {
    scope = new CmScope(rxe);
  });
  afterEach(() => scope.close());

  function member(): CmId & { readonly qp: QueuePair } {
    const id = scope.id(UDP);
    id.bind({ host: rxe.host, port: 0 });
    scope.queuePair(id);
    return id as CmId & { readonly qp: QueuePair };
  }

  it('joins a group and says where its datagrams go', async () => {
    const id = member();
    const event = nextEvent(id, 'MULTICAST_JOIN');
    const group = await id.joinMulticast('239.1.2.3');
    expect(group.joined).toBe(true);
    expect(group.ud).toMatchObject({
      qpNum: 0xff_ffff,
      qkey: id.qp.query().qkey,
      ahAttr: { grh: { dgid: '::ffff:239.1.2.3' } },
    });
    expect(await event).toMatchObject({ name: 'MULTICAST_JOIN', status: 0, address: '239.1.2.3' });
    group.leave();
    group.leave();
    expect(group.joined).toBe(false);
  });

  it('brings a datagram to all members, and to those who left no more', async () => {
    const [sender, first, second] = [member(), member(), member()] as const;
    const host = '239.1.2.4';
    const [to, , left] = await Promise.all([
      sender.joinMulticast(host, { sendOnly: true }),
      first.joinMulticast(host),
      second.joinMulticast(host),
    ]);
    const bytes = Buffer.alloc(4096);
    const mr = await scope.pd.regMr(bytes, Access.LOCAL_WRITE);
    const sge = (offset: number, length: number) => ({ addr: mr.addr + offset, length, lkey: mr.lkey });
    const ah = scope.pd.createAh(to.ud.ahAttr);
    const send = (text: string) => {
      bytes.write(text, 0);
      const wr = { opcode: Opcode.SEND, sges: [sge(0, text.length)], ah } as const;
      return sender.qp.send({ ...wr, remoteQpn: to.ud.qpNum, remoteQkey: to.ud.qkey });
    };
    const both = [first, second].map(({ qp }, i) => qp.recv({ sges: [sge(1024 * (i + 1), 128)] }));
    await send('to all');
    expect((await Promise.all(both)).map(({ byteLen }) => byteLen)).toEqual([GRH + 6, GRH + 6]);
    expect(bytes.toString('latin1', 1024 + GRH, 1024 + GRH + 6)).toBe('to all');
    expect(bytes.toString('latin1', 2048 + GRH, 2048 + GRH + 6)).toBe('to all');

    left.leave();
    const one = first.qp.recv({ sges: [sge(1024, 128)] });
    const none = second.qp.recv({ sges: [sge(2048, 128)] });
    await send('to one');
    await one;
    expect(bytes.toString('latin1', 1024 + GRH, 1024 + GRH + 6)).toBe('to one');
    second.qp.close();
    expect((await rdmaErrorOf(() => none)).code).toBe('ERR_RDMA_WC_WR_FLUSH_ERR');
    expect(bytes.toString('latin1', 2048 + GRH, 2048 + GRH + 6)).toBe('to all');
    for (const { qp } of [sender, first]) qp.close();
    ah.close();
    await mr.close();
  });

  it('closes a queue pair that is attached, and an id that is joined', async () => {
    const before = resources('rxe0');
    const id = member();
    const group = await id.joinMulticast('239.1.2.5');
    const { qp } = id;
    expect(resources('rxe0').qp).toBe(before.qp! + 1);
    qp.close();
    // rdma_destroy_qp(3) forgets one that is still attached.
    expect(resources('rxe0').qp).toBe(before.qp);
    expect(group.joined).toBe(true);
    id.close();
    expect(group.joined).toBe(false);
    const again = member();
    await again.joinMulticast('239.1.2.5');
    again.close();
    expect(again.qp.closed).toBe(true);
    expect(resources('rxe0')).toMatchObject({ qp: before.qp, cm_id: before.cm_id });
  });

  it('attaches a queue pair that was made by hand', async () => {
    const id = scope.id(UDP);
    id.bind({ host: rxe.host, port: 0 });
    const qp = scope.pd.createQp({ type: 'UD', sendCq: scope.device.createCq() });
    qp.modify({ ...id.initQpAttr('INIT'), qkey: 0x0123_4567 });
    const group = await id.joinMulticast('239.1.2.6');
    const dgid = group.ud.ahAttr.grh!.dgid;
    qp.attachMcast(dgid);
    qp.detachMcast(dgid);
  });

  it('joins several groups, each once', async () => {
    const id = member();
    await Promise.all(['239.1.3.1', '239.1.3.2', '239.1.3.3'].map((host) => id.joinMulticast(host)));
    const error = await rdmaErrorOf(() => id.joinMulticast('239.1.3.2'));
    expect(error).toMatchObject({ code: 'EADDRINUSE', syscall: 'rdma_join_multicast_ex' });
    expect(error.message).toContain('has joined 239.1.3.2 already');
    expect(id.closed).toBe(false);
  });

  it('gives up when it is aborted or the id is closed; the id can go on', async () => {
    const id = member();
    const abort = new AbortController();
    const joining = id.joinMulticast('239.1.4.1', { signal: abort.signal });
    abort.abort(new Error('enough'));
    await expect(joining).rejects.toThrow('enough');
    expect((await id.joinMulticast('239.1.4.1')).joined).toBe(true);
    const late = rdmaErrorOf(() => id.joinMulticast('239.1.4.2'));
    id.close();
    expect((await late).code).toBe('ERR_RDMA_CLOSED');
  });

  it.each([
    ['10.0.0.1', /10\.0\.0\.1 is not an address of a multicast group/],
    ['all hosts', /must be a numeric IP address/],
    ['', /group\.host must be a non-empty string/],
  ])('refuses to join "%s"', async (host, text) => {
    expect((await rdmaErrorOf(() => member().joinMulticast(host))).message).toMatch(text);
  });

  it('refuses an IPv6 group: RoCE v2 of this kernel has IPv4 ones', async () => {
    const error = await rdmaErrorOf(() => member().joinMulticast('ff15::1'));
    expect(error.code).toBe('EOPNOTSUPP');
    expect(error.message).toMatch(/ff15::1.*IPv4/);
  });

  it('needs a device, and the port space UDP', async () => {
    expect((await rdmaErrorOf(() => scope.id(UDP).joinMulticast('239.1.2.3'))).message).toMatch(
      /not bound to a device yet/,
    );
    const tcp = scope.id();
    tcp.bind({ host: rxe.host, port: 0 });
    expect((await rdmaErrorOf(() => tcp.joinMulticast('239.1.2.3'))).message).toMatch(
      /only ids of the port spaces UDP and IPOIB join groups/,
    );
  });
});

describe('multicast on siw0', () => {
  it('is refused with a reason', async () => {
    const scope = new CmScope(siw);
    const id = scope.id(UDP);
    id.bind({ host: siw.host, port: 0 });
    const error = await rdmaErrorOf(() => id.joinMulticast('239.1.2.3'));
    expect(error).toMatchObject({ code: 'EOPNOTSUPP', syscall: 'rdma_join_multicast_ex' });
    expect(error.message).toMatch(/siw0 is an iWARP device/);
    scope.close();
  });
});
