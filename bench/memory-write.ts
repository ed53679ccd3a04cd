/** Memory-to-memory RDMA WRITE through the library: what ib_write_bw measures, without files. */
import { Access, Arena, CmId, RwContext } from '../lib/index.ts';

/**
 * Writes `count` messages of `bytes` to a peer in this process, `depth` in flight; the peer's CPU has no part in it.
 *
 * @returns bytes per second, connecting not included
 */
export async function memoryWrite(
  host: string,
  bytes: number,
  count: number,
  depth: number,
): Promise<number> {
  const listener = new CmId();
  listener.bind({ host, port: 0 });
  listener.listen();
  const client = new CmId();
  await client.resolveAddr({ host, port: listener.localAddress!.port });
  await client.resolveRoute();
  const device = client.device!;
  const pd = device.allocPd();
  const cq = device.createCq();
  const target = await pd.allocSlab(bytes, Access.LOCAL_WRITE | Access.REMOTE_WRITE);
  listener.once('connectRequest', (id) => {
    id.createQp({ pd, sendCq: cq });
    // A failed accept shows as the client's failed connect.
    id.accept().catch(() => {});
    client.once('close', () => id.close());
  });
  const qp = client.createQp({ pd, sendCq: cq, maxSendWr: depth });
  const rw = new RwContext(qp);
  const source = await Arena.for(pd).alloc(bytes);
  await client.connect();
  try {
    const remote = { addr: target.addr, rkey: target.mr.rkey };
    const start = performance.now();
    let left = count;
    const lane = async (): Promise<void> => {
      while (left > 0) {
        left -= 1;
        await rw.write(source, remote);
      }
    };
    await Promise.all(Array.from({ length: depth }, lane));
    return (bytes * count) / ((performance.now() - start) / 1000);
  } finally {
    client.close();
    listener.close();
    cq.close();
    source.free();
    pd.close();
  }
}
