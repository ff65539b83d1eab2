/** Addresses on the command line. */
import { isIP } from 'node:net';
import { CliError } from '../../console/exit.js';
import type { HostAndPort } from '../../host/cluster-config.js';
import { addressFault } from '../../host/replica-address.js';

/** Longest address that can be listed. */
const ADDRESS_CHARACTERS_MAX = 259;

/** Where `HOST:PORT` is, as the members list it. Throws CliError `argument-invalid`. */
export function placeIn(text: string): HostAndPort {
  const match = /^(?:\[([^\]]+)\]|([^:[\]\s]+)):([1-9]\d{0,4})$/.exec(text);
  const host = (match?.[1] ?? match?.[2])?.toLowerCase();
  const port = Number(match?.[3]);
  if (
    host === undefined ||
    (match![1] !== undefined && isIP(host) !== 6) ||
    port > 65_535 ||
    !/^[!-~]+$/.test(text) ||
    text.length > ADDRESS_CHARACTERS_MAX
  )
    throw new CliError(
      'argument-invalid',
      `${text} is no address; it has to be HOST:PORT, an IPv6 address in brackets: [::1]:7400`,
    );
  const fault = addressFault(host);
  if (fault !== undefined)
    throw new CliError('argument-invalid', `${text} ${fault}; give an address at which the other hosts reach it`);
  return { host, port };
}
