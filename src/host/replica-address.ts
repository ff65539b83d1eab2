/**
 * What an address of a replica may be. The rule: each replica has an address of its own, at which one host receives. The
 * same address in two spellings would be two replicas in one place, and a majority would not be one.
 */
import { isIP } from 'node:net';

/**
 * The host in one spelling: names in small letters without a final dot, IPv6 addresses compressed, IPv4 ones with four
 * decimal numbers, as the system reads `127.1`, `0x7f000001` and `::ffff:127.0.0.1`. `localhost` is 127.0.0.1.
 */
export function canonicalHost(host: string): string {
  const small = host.toLowerCase().replace(/\.$/, '');
  if (small === 'localhost') return '127.0.0.1';
  const [address = '', scope] = small.split('%', 2);
  // Other characters would be user names or paths to a URL.
  if (isIP(small) !== 6 && !/^[\w.-]+$/.test(small)) return small;
  try {
    const { hostname } = new URL(`http://${isIP(small) === 6 ? `[${address}]` : small}/`);
    const plain = hostname.replace(/^\[(.*)\]$/, '$1');
    const mapped = /^::ffff:([0-9a-f]{1,4}):([0-9a-f]{1,4})$/.exec(plain);
    if (mapped !== null) return fourOf(parseInt(mapped[1]!, 16), parseInt(mapped[2]!, 16));
    return isIP(plain) === 0 ? small : scope === undefined ? plain : `${plain}%${scope}`;
  } catch {
    return small; // no host of a URL: `replica.1`
  }
}

function fourOf(high: number, low: number): string {
  return [high >> 8, high & 255, low >> 8, low & 255].join('.');
}

/** Why no single host receives at this address, in a few words; undefined if one may, or if it is a name. */
export function addressFault(host: string): string | undefined {
  const address = canonicalHost(host);
  if (isIP(address) === 6) {
    if (address === '::') return 'is the address of no host: it means "any" where a socket is bound';
    return address.startsWith('ff') ? 'is a multicast address' : undefined;
  }
  if (isIP(address) !== 4) return undefined;
  const first = Number(address.split('.')[0]);
  if (first === 0) return 'is the address of no host: it means "any" where a socket is bound';
  if (address === '255.255.255.255') return 'is the broadcast address';
  return first >= 224 && first < 240 ? 'is a multicast address' : undefined;
}

/** What to do about `addressFault`. */
export const ADDRESS_ADVICE = 'write the address at which the other hosts reach this replica';
