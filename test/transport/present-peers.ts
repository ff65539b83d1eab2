import { loadHash } from '../../src/native/hash64.js';
import { NO_KEY } from '../../src/wire/envelope.js';
import { Peers } from '../../src/wire/peers.js';
import { WIRE_VERSION } from '../../src/wire/versions.js';

const ENDPOINTS = 128;

/**
 * The peers of a replica, all of which speak the present version and get what is sent to them. Without `keys`, the
 * cluster has none.
 */
export function presentPeers(replicas: number, keys?: { readonly own: number }): Peers {
  const peers = new Peers({
    self: 0,
    replicas,
    endpoints: ENDPOINTS,
    newest: WIRE_VERSION,
    now: { monotonicUs: 0 },
    keys,
    numbers: loadHash(),
  });
  for (let endpoint = 0; endpoint < replicas; endpoint++) peers.heard(endpoint, keys?.own ?? NO_KEY, WIRE_VERSION, 0);
  // Only the place counts for the version. Endpoints that have not been heard are not asked for a proof.
  for (let place = 0; place < ENDPOINTS; place++)
    peers.heard(replicas + 4 * ENDPOINTS + place, keys?.own ?? NO_KEY, WIRE_VERSION, 0);
  return peers;
}
