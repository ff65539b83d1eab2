/**
 * The cluster file: the replicas and what they agreed on. Every process of a cluster, clients included, reads the same
 * file.
 *
 *     { "schema": "jitpaxos.cluster/1", "id": "<16 hex digits>", "replicas": ["10.0.0.1:7400", "[::1]:7401",
 *     "c.example:7400"], "authentication": "keys", "chain": "siphash-2-4", "limits": { … } }
 */
import { lookup } from 'node:dns/promises';
import { isIP } from 'node:net';
import { domainToASCII } from 'node:url';
import { JitPaxosError } from '../errors.js';
import { checkLimits, DEFAULT_LIMITS, LIMIT_NAMES, type Limits } from '../protocol/config.js';
import type { Hash64 } from '../wire/envelope.js';
import { readI32 } from '../wire/u64.js';
import { MAX_REPLICAS } from '../protocol/views.js';
import type { Address } from '../transport/transport.js';
import { OFFERED_FEATURES, type FeatureName } from '../protocol/log/features.js';
import { CHAIN_FUNCTIONS, KEYED_CHAIN, type ChainFunction } from './chain.js';
import { readRegularText } from '../storage/regular-file.js';
import { checkInteger, checkKeys, isObject, show } from './options.js';
import { ADDRESS_ADVICE, addressFault, canonicalHost } from './replica-address.js';
import { DATAGRAM_BYTES_MIN, MAX_DATAGRAM_BYTES } from '../wire/envelope.js';

export const CLUSTER_SCHEMA = 'jitpaxos.cluster/1';

/** The file's content, or an object given instead of a file. */
export interface ClusterConfig {
  readonly schema: typeof CLUSTER_SCHEMA;
  /**
   * Sixteen hexadecimal digits, chosen at random when the cluster is set up: datagrams of other clusters are refused.
   */
  readonly id: string;
  /** `host:port` by replica index, IPv6 addresses in brackets. The number of replicas is odd. */
  readonly replicas: readonly string[];
  /**
   * `keys`: every datagram is authenticated, and every process needs a key file (key-file.ts). Default `none`: for
   * development, on a network without other users.
   */
  readonly authentication?: Authentication;
  /**
   * Whether datagrams without encryption are taken. `required`, which `jitpaxos init` writes with keys: every process
   * encrypts all that it sends and refuses what is not encrypted, so it does not understand processes before version 5
   * of the wire. Default `preferred`: each process encrypts what it sends to those that can read it. Without keys,
   * nothing is encrypted.
   */
  readonly encryption?: Encryption;
  /**
   * What chains the log. `siphash-2-4`, which `jitpaxos init` writes with keys, uses a secret that only replicas hold,
   * and needs `authentication` `keys`. Default `xxh3-64`: for clusters without keys, and for older clusters with keys.
   * It never changes.
   */
  readonly chain?: ChainFunction;
  /**
   * Features that are on from the first entry of the log; `jitpaxos init` writes `session-quotas` and `membership`. It never changes: a
   * cluster that is in use switches a feature on with `jitpaxos features enable`.
   */
  readonly features?: readonly FeatureName[];
  /**
   * Id of the backup from which the cluster started (storage/backup.ts): every replica gets it before its first start.
   */
  readonly restored?: string;
  /** Limits that differ from DEFAULT_LIMITS. */
  readonly limits?: Partial<Limits>;
  /**
   * Longest datagram that all paths between the hosts of the cluster carry: their MTU minus 48, 256 to 60,000. Default:
   * see ReplicaOptions.datagramBytes.
   */
  readonly datagramBytes?: number;
}

const AUTHENTICATIONS = ['none', 'keys'] as const;
export type Authentication = (typeof AUTHENTICATIONS)[number];

const ENCRYPTIONS = ['preferred', 'required'] as const;
export type Encryption = (typeof ENCRYPTIONS)[number];

/** The content of a cluster file, checked. */
export interface Cluster {
  readonly id: string;
  readonly idHi: number;
  readonly idLo: number;
  readonly replicas: readonly HostAndPort[];
  readonly authentication: Authentication;
  readonly encryption: Encryption;
  readonly chain: ChainFunction;
  readonly features: readonly FeatureName[];
  /** Undefined: it started empty. */
  readonly restored: string | undefined;
  readonly limits: Limits;
  readonly datagramBytes: number | undefined;
}

export interface HostAndPort {
  readonly host: string;
  readonly port: number;
}

/**
 * Reads and checks a cluster file, or checks the object. Throws JitPaxosError `cluster-file-unreadable` or
 * `cluster-file-invalid`; the message names the file and the key.
 */
export function loadCluster(source: string | ClusterConfig): Cluster {
  if (typeof source !== 'string') return checkCluster('cluster', source);
  let text: string;
  try {
    text = readRegularText(source);
  } catch (error) {
    throw new JitPaxosError(
      'cluster-file-unreadable',
      `cluster file ${source} cannot be read (${messageOf(error)}); write one with \`jitpaxos init\`, or give the right path`,
      error,
    );
  }
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new JitPaxosError(
      'cluster-file-invalid',
      `cluster file ${source} is not JSON (${messageOf(error)}); correct it, or write one with \`jitpaxos init\``,
      error,
    );
  }
  return checkCluster(`cluster file ${source}`, value);
}

function checkCluster(where: string, value: unknown): Cluster {
  if (!isObject(value))
    throw invalid(`${where}: ${show(value)} is not a JSON object; write a cluster file with \`jitpaxos init\``);
  checkKeys('cluster-file-invalid', where, value, [
    'schema',
    'id',
    'replicas',
    'authentication',
    'encryption',
    'chain',
    'features',
    'restored',
    'limits',
    'datagramBytes',
  ]);
  const {
    schema,
    id,
    replicas,
    authentication = 'none',
    encryption = 'preferred',
    chain = 'xxh3-64',
    features = [],
    restored,
    limits,
    datagramBytes,
  } = value;
  if (schema !== CLUSTER_SCHEMA)
    throw invalid(`${where}: "schema" is ${show(schema)}; this program reads "${CLUSTER_SCHEMA}"`);
  if (typeof id !== 'string' || !/^[0-9a-f]{16}$/i.test(id))
    throw invalid(`${where}: "id" is ${show(id)}; it has to be a string of 16 hexadecimal digits`);
  if (restored !== undefined && (typeof restored !== 'string' || !/^[0-9a-f]{16}$/.test(restored)))
    throw invalid(`${where}: "restored" is ${show(restored)}; it has to be the id of a backup, 16 hexadecimal digits`);
  if (!Array.isArray(replicas))
    throw invalid(`${where}: "replicas" is ${show(replicas)}; it has to be an array of "host:port"`);
  if (replicas.length % 2 === 0 || replicas.length > MAX_REPLICAS) {
    throw invalid(
      `${where}: "replicas" has ${replicas.length} members; a cluster has an odd number of replicas from 1 to ${MAX_REPLICAS}: 3 survive one failure, 5 two`,
    );
  }
  if (!AUTHENTICATIONS.includes(authentication as Authentication))
    throw invalid(
      `${where}: "authentication" is ${show(authentication)}; it has to be one of ${AUTHENTICATIONS.join(', ')}`,
    );
  if (!ENCRYPTIONS.includes(encryption as Encryption))
    throw invalid(`${where}: "encryption" is ${show(encryption)}; it has to be one of ${ENCRYPTIONS.join(', ')}`);
  if (encryption === 'required' && authentication !== 'keys')
    throw invalid(
      `${where}: "encryption" is "required", and "authentication" is "none"; encryption needs keys: leave "encryption" out, or make a cluster with keys (jitpaxos init)`,
    );
  if (!CHAIN_FUNCTIONS.includes(chain as ChainFunction))
    throw invalid(`${where}: "chain" is ${show(chain)}; it has to be one of ${CHAIN_FUNCTIONS.join(', ')}`);
  if (chain === KEYED_CHAIN && authentication !== 'keys')
    throw invalid(
      `${where}: "chain" is "${KEYED_CHAIN}", which is keyed, and "authentication" is "none"; leave "chain" out, or use the cluster file that jitpaxos init wrote`,
    );
  if (!Array.isArray(features) || features.some((name) => !OFFERED_FEATURES.includes(name as FeatureName)))
    throw invalid(
      `${where}: "features" is ${show(features)}; this version knows ${OFFERED_FEATURES.map((name) => `"${name}"`).join(', ')}. Use the cluster file that jitpaxos init wrote, with that version or a newer one`,
    );
  if (features.includes('redis') && !features.includes('store'))
    throw invalid(`${where}: "features" has "redis", which does nothing without "store"; name both`);
  const checked = replicas.map((text, index) => parseHostAndPort(`${where}: "replicas"[${index}]`, text));
  const first = new Map<string, number>();
  checked.forEach(({ host, port }, index) => {
    const place = `${canonicalHost(host)} ${port}`;
    const same = first.get(place);
    if (same !== undefined)
      throw invalid(
        `${where}: "replicas"[${index}] is the same address as "replicas"[${same}]; each replica needs its own address`,
      );
    first.set(place, index);
  });
  return {
    id: id.toLowerCase(),
    idHi: parseInt(id.slice(0, 8), 16) | 0,
    idLo: parseInt(id.slice(8), 16) | 0,
    replicas: checked,
    authentication: authentication as Authentication,
    encryption: encryption as Encryption,
    chain: chain as ChainFunction,
    features: features as FeatureName[],
    restored,
    limits: mergeLimits('cluster-file-invalid', `${where}: "limits"`, DEFAULT_LIMITS, limits),
    datagramBytes:
      datagramBytes === undefined
        ? undefined
        : checkInteger(
            'cluster-file-invalid',
            `${where}: "datagramBytes"`,
            datagramBytes,
            DATAGRAM_BYTES_MIN,
            MAX_DATAGRAM_BYTES,
          ),
  };
}

/** `base` with the values of `overrides`, checked as a whole. Throws JitPaxosError `code`. */
export function mergeLimits(
  code: 'cluster-file-invalid' | 'option-invalid',
  where: string,
  base: Limits,
  overrides: unknown,
): Limits {
  if (overrides === undefined) return base;
  if (!isObject(overrides)) throw new JitPaxosError(code, `${where} is ${show(overrides)}; it has to be an object`);
  checkKeys(code, where, overrides, LIMIT_NAMES);
  const limits = { ...base, ...overrides };
  try {
    checkLimits(limits);
  } catch (error) {
    throw new JitPaxosError(code, `${where}: ${messageOf(error)}; correct it, for all replicas alike`, error);
  }
  return limits;
}

/**
 * Longest host in JSON: a DNS name has at most 253 characters. Data directories keep the addresses in a place of fixed
 * size.
 */
const MAX_HOST_BYTES = 257;

/** Throws JitPaxosError `cluster-file-invalid`. */
function parseHostAndPort(where: string, value: unknown): HostAndPort {
  const match = typeof value === 'string' ? /^(?:\[([^\]]+)\]|([^:[\]\s]+)):(\d{1,5})$/.exec(value) : null;
  if (match === null)
    throw invalid(`${where} is ${show(value)}; it has to be "host:port", an IPv6 address in brackets: "[::1]:7400"`);
  const host = (match[1] ?? match[2])!;
  if (match[1] !== undefined && isIP(host) !== 6)
    throw invalid(`${where} is ${show(value)}; the text in brackets has to be an IPv6 address`);
  if (Buffer.byteLength(JSON.stringify(host)) > MAX_HOST_BYTES)
    throw invalid(`${where} is ${show(value)}; a host name has at most 253 characters`);
  const port = Number(match[3]);
  const fault = addressFault(host);
  if (fault !== undefined) throw invalid(`${where} is ${show(value)}, which ${fault}; ${ADDRESS_ADVICE}`);
  if (port < 1 || port > 65_535) throw invalid(`${where} is ${show(value)}; a port is a number from 1 to 65535`);
  return { host, port };
}

/** Host and port of an address that a list of members has; undefined if a cluster file could not have it. */
export function hostAndPortOf(address: string): HostAndPort | undefined {
  try {
    return parseHostAndPort('', address);
  } catch {
    return undefined;
  }
}

/** The address as written in a cluster file, in canonical form. A name with other letters than ASCII is in its ASCII form. */
export function addressText({ host, port }: HostAndPort): string {
  const small = host.toLowerCase();
  if (small.includes(':')) return `[${small}]:${port}`;
  return `${/^[!-~]+$/.test(small) ? small : domainToASCII(small) || small}:${port}`;
}

/** Digest of the addresses, 28 bits, never 0: replicas and clients compare it (protocol/replica/introduction.ts). */
export function listDigest(cluster: Cluster, hash: Hash64): number {
  const bytes = Buffer.from(JSON.stringify(cluster.replicas.map(addressText)));
  const digest = new Uint8Array(8);
  hash.hash64(bytes, 0, bytes.length, digest, 0);
  return readI32(digest, 0) & 0x0fffffff || 1;
}

/**
 * The numeric addresses that all replicas have now. For tools; processes have an AddressBook. Throws JitPaxosError
 * `host-unresolved`.
 */
export function resolveAddresses(cluster: Cluster): Promise<Address[]> {
  return Promise.all(
    cluster.replicas.map(async ({ host, port }): Promise<Address> => {
      const family = isIP(host);
      if (family === 4 || family === 6) return { host, port, family };
      try {
        const found = await lookup(host);
        return { host: found.address, port, family: found.family === 6 ? 6 : 4 };
      } catch (error) {
        throw new JitPaxosError(
          'host-unresolved',
          `host ${host} of the cluster file does not resolve (${messageOf(error)}); check the name, or write its address`,
          error,
        );
      }
    }),
  );
}

function invalid(message: string): JitPaxosError {
  return new JitPaxosError('cluster-file-invalid', message);
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
