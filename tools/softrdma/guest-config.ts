/** The shell file that tells `guest/init.sh` what machine to make. */
import { readFileSync } from 'node:fs';
import { cpus } from 'node:os';

/** The addresses of a machine's two RDMA devices. */
export interface Addresses {
  /** Of rxe0 (Soft-RoCE). */
  rxe0: string;
  /** Of siw0 (Soft-iWARP). */
  siw0: string;
}

/** What differs from machine to machine. */
export interface GuestConfig {
  /** The agent's program. */
  helper: string;
  hostname: string;
  /** 1 for the first machine, 2 for the second: the last number of its addresses. */
  number: number;
  /** Whether the devices sit on cables to another machine (vec0, vec1) or on netdevs of their own (dummy). */
  cabled: boolean;
  /** Host directories that the guest may write to. */
  writable: readonly string[];
}

/** Machine `number`'s IPv4 addresses. */
export function addressesOf(number: number): Addresses {
  return { rxe0: `10.0.1.${number}`, siw0: `10.0.2.${number}` };
}

/** Machine `number`'s IPv6 addresses. */
export function addressesOf6(number: number): Addresses {
  return { rxe0: `fd00:1::${number}`, siw0: `fd00:2::${number}` };
}

/** `text` as one word of a shell script. */
export function shellQuote(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

function clockRate(): string {
  // /proc/cpuinfo is what perftest reads; os.cpus() rounds, and some hosts report 0 there.
  const match = /^cpu MHz\s*:\s*([\d.]+)/m.exec(readFileSync('/proc/cpuinfo', 'utf8'));
  return match?.[1] ?? `${cpus()[0]?.speed || 1000}.000`;
}

/** The text of the file. */
export function guestConfig(config: GuestConfig): string {
  const { number } = config;
  const [v4, v6] = [addressesOf(number), addressesOf6(number)];
  const values: Record<string, string> = {
    HELPER: config.helper,
    HOSTNAME: config.hostname,
    MHZ: clockRate(),
    RXE_NET: config.cabled ? 'vec0' : 'dummy',
    SIW_NET: config.cabled ? 'vec1' : 'dummy',
    RXE_ADDR: v4.rxe0,
    SIW_ADDR: v4.siw0,
    RXE_ADDR6: v6.rxe0,
    SIW_ADDR6: v6.siw0,
    // Always the same, so that a peer's neighbour table still holds after a restart.
    RXE_MAC: `02:00:00:01:00:0${number}`,
    SIW_MAC: `02:00:00:02:00:0${number}`,
  };
  const lines = Object.entries(values).map(([key, value]) => `${key}=${shellQuote(value)}`);
  const makeRoot = `make_root() { "$HELPER" root "$root" ${config.writable.map(shellQuote).join(' ')}; }`;
  return [...lines, makeRoot, ''].join('\n');
}
