/** A status report that a replica in the fuzzers' cluster gives: of a length that takes several pieces. */
import { COUNTER_NAMES } from '../../src/protocol/counters.js';
import { TRANSPORT_COUNTER_NAMES } from '../../src/transport/transport.js';
import { STATUS_SCHEMA, type ReplicaStatusReport } from '../../src/host/status.js';

const counted = (names: readonly string[]): Record<string, number> =>
  Object.fromEntries(names.map((name, index) => [name, index + 1]));

export const REPORT: ReplicaStatusReport = {
  schema: STATUS_SCHEMA,
  id: 0,
  cluster: '0badcafe600df00d',
  version: '0.0.0',
  pid: 1,
  address: '127.0.0.1',
  port: 7000,
  status: 'normal',
  view: 0,
  logView: 0,
  primary: 0,
  members: [0, 1],
  incarnation: 1,
  baseIndex: 0,
  lastIndex: 0,
  lastChain: '0000000000000000',
  syncedIndex: 0,
  committedIndex: 0,
  executedIndex: 0,
  durability: 'memory',
  storage: null,
  transport: { kind: 'fuzz', idle: 'block', counters: counted(TRANSPORT_COUNTER_NAMES) },
  clock: { source: 'fuzz', epoch: 'utc' },
  counters: counted(COUNTER_NAMES),
  wire: [5, 5, 5],
  drops: {},
  outboxDropped: 0,
  statusRequests: { answered: 0, refused: 0 },
  cpuSeconds: { user: 0, system: 0 },
  eventLoop: { stalls: 0, stallMaxUs: 0 },
  uptimeSeconds: 1,
  majorityLost: [1],
  diverged: { log: [1], state: [], limits: [2] },
  clusterFileDiffers: [1],
  logAheadNs: 1,
  chain: { function: 'siphash-2-4', fingerprint: '01234567', differs: [2] },
  features: { known: ['session-quotas'], on: ['session-quotas'] },
  replicaClocks: { offsetsNs: [0, null, 1], off: [2], divided: false, says: 'one is off' },
  peers: [null, { speaks: 5, encrypted: true }, { speaks: null, encrypted: null }],
  previousVersion: { replicas: 0, clients: 0 },
  keys: { use: 1, loaded: [1, 2, 3], fingerprint: '01234567' },
};
