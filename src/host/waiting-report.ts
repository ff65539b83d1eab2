/**
 * What a process says of itself that waits to be added to a cluster, in answer to Status. A msgpack map, like a replica's
 * report (status-codec.ts), and checked as that is.
 */
import { Packr, Unpackr } from 'msgpackr';
import { LIMIT_NAMES, type Limits } from '../protocol/config.js';
import { isMap, isPlain } from './status-codec.js';

const WAITING_SCHEMA = 'jitpaxos.waiting/1';

export interface WaitingReport {
  readonly schema: typeof WAITING_SCHEMA;
  readonly cluster: string;
  /** Version of the package. */
  readonly version: string;
  readonly pid: number;
  readonly address: string;
  /** Of its data directory, sixteen hexadecimal digits. */
  readonly identity: string;
  readonly limits: Limits;
  /** What chains its log, and the fingerprint of the secret. */
  readonly chain: { readonly function: string; readonly fingerprint: string };
  /** Features that it knows, by name. */
  readonly features: readonly string[];
  readonly view: number;
}

const packr = new Packr({ useRecords: false });
const unpackr = new Unpackr({ useRecords: false, mapsAsObjects: true, int64AsType: 'number' });

export function encodeWaiting(report: Omit<WaitingReport, 'schema'>): Uint8Array {
  return packr.pack({ schema: WAITING_SCHEMA, ...report });
}

/** The report, or undefined if the bytes are not one. Never throws. */
export function decodeWaiting(bytes: Uint8Array): WaitingReport | undefined {
  let value: unknown;
  try {
    value = unpackr.unpack(bytes);
  } catch {
    return undefined;
  }
  if (!isMap(value) || !isPlain(value, 0) || value['schema'] !== WAITING_SCHEMA) return undefined;
  const { cluster, version, pid, address, identity, limits, chain, features, view } = value;
  if (![cluster, version, address].every((text) => typeof text === 'string')) return undefined;
  if (typeof pid !== 'number' || typeof view !== 'number') return undefined;
  if (typeof identity !== 'string' || !/^[0-9a-f]{16}$/.test(identity) || /^0+$/.test(identity)) return undefined;
  if (!isMap(limits) || !LIMIT_NAMES.every((name) => typeof limits[name] === 'number')) return undefined;
  if (!isMap(chain) || typeof chain['function'] !== 'string' || typeof chain['fingerprint'] !== 'string')
    return undefined;
  if (!Array.isArray(features) || !features.every((name) => typeof name === 'string')) return undefined;
  return value as unknown as WaitingReport;
}
