/** Counters of devices and their ports, from sysfs (kernel Documentation/ABI/stable/sysfs-class-infiniband). */
import { readdir, readFile } from 'node:fs/promises';

/** Counters by the names of their files. */
export type Counters = Readonly<Record<string, bigint>>;

/** Counters of a port. */
export interface PortCounters {
  /** Those of the InfiniBand specification; `port_xmit_data` and `port_rcv_data` count 4-byte words. */
  readonly counters: Counters;
  /** Those of the driver, with its names and units; `rdma statistic` prints the same. */
  readonly hwCounters: Counters;
}

/** Milliseconds that the kernel keeps what it has read of the device: no counter. */
const SETTING = 'lifespan';

/** The counters of a directory, without those that the driver does not count; none when there is no directory. @internal */
export async function readCounters(directory: string): Promise<Counters> {
  let names: string[];
  try {
    names = (await readdir(directory)).sort();
  } catch {
    return {};
  }
  const texts = await Promise.all(
    names.map((name) => readFile(`${directory}/${name}`, 'utf8').catch(() => '')),
  );
  const counters: Record<string, bigint> = {};
  names.forEach((name, i) => {
    const text = (texts[i] as string).trim();
    if (name !== SETTING && /^\d+$/.test(text)) counters[name] = BigInt(text);
  });
  return counters;
}
