/**
 * A status report as bytes: a msgpack map, so that older tools can read a newer replica's report and vice versa.
 * Counters that are zero are left out; the reader puts them back.
 *
 * The rule: data from the network is checked before anything uses it. A report is rejected if it is cut, has another
 * shape, or holds text that would disturb a terminal.
 */
import { Packr, Unpackr } from 'msgpackr';
import { COUNTER_NAMES } from '../protocol/counters.js';
import { TRANSPORT_COUNTER_NAMES } from '../transport/transport.js';
import { DROP_REASON_NAMES } from '../wire/envelope.js';
import { HOSTS_MAX } from '../wire/member-list.js';
import { MEMBER_ROLES, type MemberRole } from './membership-report.js';
import { STATUS_SCHEMA, type ReplicaStatusReport } from './status.js';

/** Deepest nesting of a report; deeper data is not a report. */
const DEPTH_MAX = 6;
/** Control characters, which a terminal would obey. */
const CONTROL = /[\u0000-\u001f\u007f-\u009f\u2028\u2029\u202a-\u202e\u2066-\u2069]/;

/** What every version reports, with its type. Further keys are passed on unchanged. */
const REQUIRED = {
  schema: 'string',
  id: 'number',
  cluster: 'string',
  version: 'string',
  pid: 'number',
  address: 'string',
  port: 'number',
  status: 'string',
  view: 'number',
  logView: 'number',
  primary: 'number',
  members: 'array',
  incarnation: 'number',
  baseIndex: 'number',
  lastIndex: 'number',
  lastChain: 'string',
  syncedIndex: 'number',
  committedIndex: 'number',
  executedIndex: 'number',
  durability: 'string',
  transport: 'object',
  clock: 'object',
  counters: 'object',
  drops: 'object',
  outboxDropped: 'number',
  cpuSeconds: 'object',
  eventLoop: 'object',
  uptimeSeconds: 'number',
} as const;

const packr = new Packr({ useRecords: false });
const unpackr = new Unpackr({ useRecords: false, mapsAsObjects: true, int64AsType: 'number' });

export function encodeReport(report: ReplicaStatusReport): Uint8Array {
  return packr.pack({
    ...report,
    counters: withoutZeros(report.counters),
    drops: withoutZeros(report.drops),
    transport: { ...report.transport, counters: withoutZeros(report.transport.counters) },
  });
}

/** The report, or undefined if the bytes are not one. Never throws. */
export function decodeReport(bytes: Uint8Array): ReplicaStatusReport | undefined {
  let value: unknown;
  try {
    value = unpackr.unpack(bytes);
  } catch {
    return undefined;
  }
  if (!isMap(value) || !isPlain(value, 0)) return undefined;
  for (const [key, type] of Object.entries(REQUIRED)) {
    const field = value[key];
    const fits =
      type === 'array'
        ? Array.isArray(field) && field.every((item) => typeof item === 'number')
        : type === 'object'
          ? isMap(field)
          : typeof field === type;
    if (!fits) return undefined;
  }
  for (const key of ['majorityLost', 'clusterFileDiffers', 'twoLives', 'entriesOf']) {
    const replicas = value[key];
    if (
      replicas !== undefined &&
      !(Array.isArray(replicas) && replicas.every((replica) => typeof replica === 'number'))
    )
      return undefined;
  }
  const clocks = value['replicaClocks'];
  if (clocks !== undefined && !isClocks(clocks)) return undefined;
  const ahead = value['logAheadNs'];
  if (ahead !== undefined && !(typeof ahead === 'number' && ahead >= 0)) return undefined;
  if (value['schema'] !== STATUS_SCHEMA) return undefined;
  const report = value as unknown as ReplicaStatusReport;
  if (
    !isMap(report.transport.counters) ||
    !isMap(report.cpuSeconds) ||
    typeof report.clock.source !== 'string' ||
    typeof report.transport.kind !== 'string'
  )
    return undefined;
  if (
    ![report.clock.errorBoundNs, report.clock.offsetNs].every(
      (value) => value === undefined || typeof value === 'number',
    )
  )
    return undefined;
  if (
    ![report.counters, report.drops, report.transport.counters, report.cpuSeconds, report.eventLoop].every((map) =>
      Object.values(map).every((item) => typeof item === 'number'),
    )
  )
    return undefined;
  // Every version that is spoken reports it. The entry of a replica of the cluster file says what it speaks.
  if (!isNumbers(report.wire) || report.wire.length === 0) return undefined;
  if (
    !isIdentity(value['identity']) ||
    !isMembership(value['membership']) ||
    !isPeers(value['peers']) ||
    !isKeys(value['keys']) ||
    !isForged(value['forgedByKey']) ||
    !isPrevious(value['previousVersion']) ||
    !isDiverged(value['diverged']) ||
    !isChain(value['chain']) ||
    !isFeatures(value['features'])
  )
    return undefined;
  return {
    ...report,
    counters: withZeros(COUNTER_NAMES, report.counters),
    drops: withZeros(DROP_REASON_NAMES.slice(1), report.drops),
    transport: { ...report.transport, counters: withZeros(TRANSPORT_COUNTER_NAMES, report.transport.counters) },
  };
}

function isClocks(value: unknown): boolean {
  if (!isMap(value)) return false;
  const { offsetsNs, off, divided, says } = value;
  return (
    Array.isArray(offsetsNs) &&
    offsetsNs.every((ns) => ns === null || typeof ns === 'number') &&
    Array.isArray(off) &&
    off.every((id) => typeof id === 'number') &&
    typeof divided === 'boolean' &&
    typeof says === 'string'
  );
}

/** The parts below are absent from a replica of an earlier version, or if there is nothing to say. */
function isIdentity(value: unknown): boolean {
  return value === undefined || value === null || (typeof value === 'string' && /^[0-9a-f]{16}$/.test(value));
}

function isMembership(value: unknown): boolean {
  if (value === undefined) return true;
  if (!isMap(value)) return false;
  const { role, epoch, decided, index, hosts, openSeconds, viewsLeft, learnerLag } = value;
  return (
    MEMBER_ROLES.includes(role as MemberRole) &&
    [epoch, decided, index, viewsLeft].every(isCount) &&
    Array.isArray(hosts) &&
    hosts.length <= HOSTS_MAX &&
    hosts.every(isListedHost) &&
    (openSeconds === null || isCount(openSeconds)) &&
    (learnerLag === undefined ||
      (isMap(learnerLag) && Object.values(learnerLag).every((lag) => lag === null || isCount(lag))))
  );
}

function isListedHost(value: unknown): boolean {
  return (
    isMap(value) &&
    isCount(value['id']) &&
    typeof value['address'] === 'string' &&
    value['identity'] !== undefined &&
    isIdentity(value['identity']) &&
    typeof value['votes'] === 'boolean' &&
    typeof value['willVote'] === 'boolean'
  );
}

function isCount(value: unknown): boolean {
  return typeof value === 'number' && value >= 0;
}

function isPeers(value: unknown): boolean {
  const isPeer = (peer: unknown): boolean =>
    peer === null ||
    (isMap(peer) &&
      (peer['speaks'] === null || typeof peer['speaks'] === 'number') &&
      (peer['encrypted'] === null || typeof peer['encrypted'] === 'boolean'));
  return value === undefined || (Array.isArray(value) && value.every(isPeer));
}

function isKeys(value: unknown): boolean {
  if (value === undefined || value === null) return true;
  if (!isMap(value)) return false;
  const { use, loaded, fingerprint } = value;
  return (
    typeof use === 'number' &&
    Array.isArray(loaded) &&
    loaded.every((id) => typeof id === 'number') &&
    typeof fingerprint === 'string'
  );
}

function isForged(value: unknown): boolean {
  if (value === undefined || value === null) return true;
  return isMap(value) && Object.values(value).every((count) => typeof count === 'number');
}

function isDiverged(value: unknown): boolean {
  return (
    value === undefined || (isMap(value) && ['log', 'state', 'limits'].every((subject) => isNumbers(value[subject])))
  );
}

function isChain(value: unknown): boolean {
  return (
    value === undefined ||
    (isMap(value) &&
      typeof value['function'] === 'string' &&
      typeof value['fingerprint'] === 'string' &&
      (value['differs'] === undefined || isNumbers(value['differs'])))
  );
}

function isFeatures(value: unknown): boolean {
  const areNames = (names: unknown): boolean => Array.isArray(names) && names.every((name) => typeof name === 'string');
  return value === undefined || (isMap(value) && areNames(value['known']) && areNames(value['on']));
}

function isNumbers(value: unknown): boolean {
  return Array.isArray(value) && value.every((item) => typeof item === 'number');
}

function isPrevious(value: unknown): boolean {
  return (
    value === undefined ||
    (isMap(value) && typeof value['replicas'] === 'number' && typeof value['clients'] === 'number')
  );
}

function withoutZeros(counters: Readonly<Record<string, number>>): Record<string, number> {
  return Object.fromEntries(Object.entries(counters).filter(([, count]) => count !== 0));
}

function withZeros(names: readonly string[], counters: Readonly<Record<string, number>>): Record<string, number> {
  return { ...Object.fromEntries(names.map((name) => [name, 0])), ...counters };
}

export function isMap(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value) && !ArrayBuffer.isView(value);
}

/** Numbers, flags, harmless text, and lists and maps of these. @param depth of `value`; 0 for the whole */
export function isPlain(value: unknown, depth: number): boolean {
  if (value === null || typeof value === 'boolean' || typeof value === 'number') return true;
  if (typeof value === 'string') return !CONTROL.test(value);
  if (depth >= DEPTH_MAX) return false;
  if (Array.isArray(value)) return value.every((item) => isPlain(item, depth + 1));
  return (
    isMap(value) &&
    Object.getPrototypeOf(value) === Object.prototype &&
    Object.entries(value).every(([key, item]) => !CONTROL.test(key) && isPlain(item, depth + 1))
  );
}
