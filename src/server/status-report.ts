/**
 * What a replica reports of itself: its schema and the parts are in host/status.ts; here they are put together.
 *
 * The rule: unknown figures are left out, or null; they never read as 0.
 */
import type { HostClock } from '../clock/host-clock.js';
import type { Cluster } from '../host/cluster-config.js';
import { showFingerprint } from '../host/chain.js';
import type { Keyring } from '../host/keyring.js';
import { membershipReport, type OpenChange } from '../host/membership-report.js';
import {
  clocksReport,
  coreCounters,
  divergedReport,
  entriesOf,
  logAheadNs,
  loopReport,
  protocolReport,
  STATUS_SCHEMA,
  type ReplicaStatusReport,
} from '../host/status.js';
import type { TurnLoop } from '../host/turn-loop.js';
import { version } from '../host/version.js';
import { featureNames, OFFERED_FEATURES } from '../protocol/log/features.js';
import type { Log } from '../protocol/log/log.js';
import type { ReplicaCore } from '../protocol/replica/replica-core.js';
import type { Durability } from '../storage/durability.js';
import { DurableStorage } from '../storage/durable-storage.js';
import type { MemoryStorage } from '../storage/memory-storage.js';
import type { Address } from '../transport/transport.js';
import type { MemberList } from '../wire/member-list.js';

export interface ReportedReplica {
  readonly id: number;
  readonly cluster: Cluster;
  readonly address: Address;
  readonly core: ReplicaCore;
  readonly ring: Keyring | undefined;
  readonly loop: TurnLoop;
  readonly clock: HostClock;
  readonly durability: Durability;
  readonly storage: MemoryStorage | DurableStorage;
  readonly members: MemberList;
  readonly openChange: OpenChange;
  readonly statusRequests: { readonly answered: number; readonly refused: number };
  readonly membersRequests: { readonly answered: number; readonly refused: number };
  readonly timesRequests: { readonly answered: number; readonly refused: number };
  readonly watches: NonNullable<ReplicaStatusReport['watches']>;
  readonly leases: ReplicaStatusReport['leases'];
  readonly startedAtMs: number;
  readonly running: boolean;
  /** Slots of hosts as which two processes speak. */
  readonly twoLives: number;
}

/** Allocates. */
export function statusReport(of: ReportedReplica): ReplicaStatusReport {
  const { user, system } = process.cpuUsage();
  const { core, loop, clock, cluster, storage, running } = of;
  const { hosts, members, others, id: slot } = core.state;
  const entries = entriesOf(members.hosts, { id: of.id, slot });
  return {
    schema: STATUS_SCHEMA,
    id: of.id,
    cluster: cluster.id,
    version: version(),
    pid: process.pid,
    address: of.address.host,
    port: of.address.port,
    ...protocolReport(core.state, running),
    membership: membershipReport(of.members, of.id, core.state, of.openChange.seconds(performance.now()), (slot) =>
      core.matchedAt(slot),
    ),
    identity: storage.identity ?? null,
    ...(core.state.isPrimary ? { replicaClocks: clocksReport(core.clocks, entries, hosts) } : {}),
    ...(running ? logAhead(core.state.log, clock) : {}),
    chain: {
      function: cluster.chain,
      fingerprint: showFingerprint(core.state.chain.fingerprint),
      ...(others.otherChain === 0 ? {} : { differs: hosts.idsOf(others.otherChain) }),
    },
    ...(others.otherList === 0 ? {} : { clusterFileDiffers: hosts.idsOf(others.otherList) }),
    ...(of.twoLives === 0 ? {} : { twoLives: hosts.idsOf(of.twoLives) }),
    features: {
      known: OFFERED_FEATURES,
      on: running ? featureNames(core.state.execution.features) : [],
    },
    durability: of.durability,
    storage: storage instanceof DurableStorage ? storage.status() : null,
    clock: clock.report(),
    ...divergedReport(core.divergence, hosts),
    counters: coreCounters(core.counters),
    ...loopReport(loop, entries, of.id, of.ring?.report()),
    statusRequests: { answered: of.statusRequests.answered, refused: of.statusRequests.refused },
    membersRequests: { answered: of.membersRequests.answered, refused: of.membersRequests.refused },
    timesRequests: { answered: of.timesRequests.answered, refused: of.timesRequests.refused },
    watches: {
      open: of.watches.open,
      told: of.watches.told,
      refused: of.watches.refused,
      behind: of.watches.behind,
      forgotten: of.watches.forgotten,
    },
    ...(of.leases === undefined ? {} : { leases: of.leases }),
    cpuSeconds: { user: user / 1e6, system: system / 1e6 },
    uptimeSeconds: (performance.now() - of.startedAtMs) / 1000,
  };
}

function logAhead(log: Log, clock: HostClock): { readonly logAheadNs?: number } {
  const halves = new Int32Array(2);
  try {
    clock.writeHalves(halves, 0);
  } catch {
    return {}; // a clock whose device is gone
  }
  return { logAheadNs: logAheadNs(log, halves) };
}
