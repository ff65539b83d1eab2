/** How long a datagram of several messages may become where nobody says so. */
import { BlockList } from 'node:net';
import { DEFAULT_DATAGRAM_BYTES, JUMBO_DATAGRAM_BYTES } from '../wire/envelope.js';
import type { Address } from './transport.js';

const loopback = new BlockList();
loopback.addSubnet('127.0.0.0', 8, 'ipv4');
loopback.addAddress('::1', 'ipv6');

/** What fits any Ethernet; more when every replica is on this host, where there is no Ethernet in between. */
export function datagramBytesFor(replicas: readonly Address[]): number {
  return replicas.every(
    ({ host, family, name }) =>
      name === undefined && host !== '' && loopback.check(host, family === 6 ? 'ipv6' : 'ipv4'),
  )
    ? JUMBO_DATAGRAM_BYTES
    : DEFAULT_DATAGRAM_BYTES;
}
