/** The addresses of a connection, as net.Socket tells them. */
import { Duplex } from 'node:stream';
import type { Address } from '../cm/index.ts';

/** A stream between two addresses, which are known when it is connected. */
export class AddressedDuplex extends Duplex {
  #local: Address | undefined;
  #remote: Address | undefined;

  /** Takes note of the addresses. @internal */
  protected _setAddresses(local: Address | undefined, remote: Address | undefined): void {
    this.#local = local;
    this.#remote = remote;
  }

  /** Address of this side: {address, family, port}, or {} before it is known. */
  address(): { address?: string; family?: string; port?: number } {
    const local = this.#local;
    return local === undefined
      ? {}
      : { address: local.host, family: local.family ?? 'IPv4', port: local.port };
  }

  get localAddress(): string | undefined {
    return this.#local?.host;
  }

  get localPort(): number | undefined {
    return this.#local?.port;
  }

  get localFamily(): string | undefined {
    return this.#local?.family;
  }

  get remoteAddress(): string | undefined {
    return this.#remote?.host;
  }

  get remotePort(): number | undefined {
    return this.#remote?.port;
  }

  get remoteFamily(): string | undefined {
    return this.#remote?.family;
  }
}
