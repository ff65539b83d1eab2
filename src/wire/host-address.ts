/**
 * What an address of a host is in a list of members and in the operations that change it. The one rule for all of them:
 * whatever an operation may list can be encoded, stored, told and read again.
 *
 * Printable ASCII, `host:port`: a name or an IPv4 address, or an IPv6 address in brackets, at most 253 characters; and a
 * port from 1 to 65535 without zeros in front. Whether anybody listens there is for others to find out. A name of a cluster
 * file that has other letters is told in its ASCII form (host/cluster-config.ts).
 *
 * What an operation does must not depend on the release of Node, so IPv6 is checked here.
 */

/** A name of 253 characters, a colon and a port. */
export const ADDRESS_BYTES_MAX = 259;

const HOST_MAX = 253;
const FORM = /^(?:\[([!-Z^-~]+)\]|([!-9;-Z^-~]+)):([1-9]\d{0,4})$/;
const GROUP = /^[0-9a-f]{1,4}$/i;
const FOUR = /^(?:0|[1-9]\d?|1\d\d|2[0-4]\d|25[0-5])(?:\.(?:0|[1-9]\d?|1\d\d|2[0-4]\d|25[0-5])){3}$/;
const SCOPE = /^[\w.-]+$/;

export function isAddress(text: string): boolean {
  const [, six, name, port] = FORM.exec(text) ?? [];
  if (Number(port ?? 65_536) > 65_535) return false;
  return six !== undefined ? isIPv6(six) : name !== undefined && name.length <= HOST_MAX;
}

function isIPv6(text: string): boolean {
  if (text.length > HOST_MAX) return false;
  const [address = '', scope, ...more] = text.split('%');
  if (more.length > 0 || (scope !== undefined && !SCOPE.test(scope))) return false;
  const halves = address.split('::');
  if (halves.length > 2) return false;
  let groups = 0;
  for (const [at, half] of halves.entries()) {
    if (half === '') continue;
    const parts = half.split(':');
    const last = parts.length - 1;
    for (const [index, part] of parts.entries()) {
      const isEnd = at === halves.length - 1 && index === last;
      if (isEnd && FOUR.test(part)) groups += 2;
      else if (GROUP.test(part)) groups++;
      else return false;
    }
  }
  return halves.length === 2 ? groups < 8 : groups === 8;
}
