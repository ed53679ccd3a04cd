/** Arguments that the commands of the examples have in common. */
import { InvalidArgumentError } from 'commander';

/** A port, 0 to 65535. */
export function port(text: string): number {
  if (!/^\d{1,5}$/.test(text) || Number(text) > 65535)
    throw new InvalidArgumentError('Give a port: 0 to 65535.');
  return Number(text);
}
