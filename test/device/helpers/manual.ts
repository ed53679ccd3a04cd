/** Queue pairs that are connected by hand, without rdma_cm. */
import { readdirSync, readFileSync } from 'node:fs';

/** Index of the IPv4 address in the GID table of [name]'s port 1. */
export function ipv4GidIndex(name: string): number {
  const table = `/sys/class/infiniband/${name}/ports/1/gids`;
  const found = readdirSync(table)
    .map(Number)
    .sort((a, b) => a - b)
    .find((index) =>
      readFileSync(`${table}/${index}`, 'latin1').startsWith('0000:0000:0000:0000:0000:ffff:'),
    );
  if (found === undefined) throw new Error(`${name} has no GID of an IPv4 address`);
  return found;
}
