/** The default for how long a datagram of several messages may become. */
import { BlockList } from 'node:net';
import { DEFAULT_DATAGRAM_BYTES, JUMBO_DATAGRAM_BYTES } from '../wire/envelope.js';
import type { Address } from './transport.js';

const loopback = new BlockList();
loopback.addSubnet('127.0.0.0', 8, 'ipv4');
loopback.addAddress('::1', 'ipv6');

/** A length that fits any Ethernet. It is larger if all replicas are on this host, with no Ethernet in between. */
export function datagramBytesFor(replicas: readonly Address[]): number {
  return replicas.every(
    ({ host, family, name }) =>
      name === undefined && (host === '' || loopback.check(host, family === 6 ? 'ipv6' : 'ipv4')),
  )
    ? JUMBO_DATAGRAM_BYTES
    : DEFAULT_DATAGRAM_BYTES;
}
