/**
 * Rows with a given rate from several client processes, with the open loop of `bench load`. Here latencies count from
 * the moment of sending, not from the intended one: clients that share two cores with the replicas sleep until their
 * arrivals and then wait for a processor, and that wait would hide the difference.
 */
import { OurCluster } from '../../src/measure/compare/cluster.js';
import { median } from '../../src/measure/compare/rounds.js';
import { LocalCluster } from '../../src/measure/local-cluster.js';
import { OpenLoad, type StepMeasurement } from '../../src/measure/load/open-load.js';
import { formatCount, formatDuration } from '../../src/console/units.js';
import type { ReplicaStatusReport } from '../../src/host/status.js';
import { BatchScheduling } from '../scheduling.js';
import { judged, type Effort, type RowGroup } from './row.js';

const REPLICAS = 3;
const CLIENTS = 8;
const LANES = 64;
const BYTES = 64;
const LOW_RATE = 10_000;
const NS_PER_MS = 1e6;
/** A given rate is lower than a closed loop's, so it takes longer until V8 has compiled everything. */
const WARMUP_FACTOR = 1.5;

/** One client that is never done, and one with little to do. */
const GREEDY_LANES = 1_024;
const GREEDY_RATE = 2_000_000;
const SMALL_RATE = 400;

const SLOW_RATE = 5_000;
/** The member runs for a tenth of each period: ten times slower, but never silent long enough to be suspected. */
const PERIOD_MS = 10;
const RUNNING_MS = 1;
const LEAVE_LIMIT_MS = 10_000;
const POLL_MS = 10;

const workload = (index: number, lanes: number) =>
  ({
    machine: 'echo',
    lanes,
    size: BYTES,
    mix: { write: 1 },
    keys: 1,
    keyPrefix: 'k',
    ownKeys: false,
    seed: index + 1,
    timeoutMs: 5_000,
  }) as const;

function startLoad(cluster: LocalCluster, clients: number, lanes = LANES): Promise<OpenLoad> {
  return OpenLoad.start({
    clients,
    cluster: cluster.clusterFile,
    transport: 'auto',
    idle: undefined,
    pacing: 'sleep',
    workload: (index) => workload(index, lanes),
    history: undefined,
  });
}

function step(
  load: OpenLoad,
  ratePerSecond: number,
  seed: number,
  warmupMs: number,
  ms: number,
): Promise<StepMeasurement> {
  return load.step({
    kind: 'poisson',
    ratePerSecond,
    seed,
    warmupNs: warmupMs * NS_PER_MS,
    durationNs: ms * NS_PER_MS,
    intervalMs: ms,
    onProgress: () => undefined,
  });
}

function startCluster(): Promise<LocalCluster> {
  return LocalCluster.start({ replicas: REPLICAS, machine: 'echo', transport: 'auto', durability: 'memory' });
}

/** One step on a fresh cluster. */
async function measure(
  clients: number,
  ratePerSecond: number,
  round: number,
  { timing }: Effort,
): Promise<StepMeasurement> {
  await using cluster = await startCluster();
  const load = await startLoad(cluster, clients);
  try {
    return await step(load, ratePerSecond, round + 1, timing.warmupMs * WARMUP_FACTOR, timing.ms * 3);
  } finally {
    load.close();
  }
}

export const oneRoundTripRow: RowGroup = {
  names: ['clients-10k'],
  async measure(effort) {
    const share = async (round: number): Promise<number> => {
      const { client } = await measure(CLIENTS, LOW_RATE, round, effort);
      return client.fast / client.committed;
    };
    const usual = await share(0);
    using scheduling = new BatchScheduling(REPLICAS + CLIENTS);
    const shares: number[] = [];
    for (let round = 0; round < effort.rounds; round++) {
      shares.push(await share(round));
      effort.progress(
        `${CLIENTS} clients, ${formatCount(LOW_RATE)}/s, round ${round + 1} of ${effort.rounds}: ${(100 * shares.at(-1)!).toFixed(2)} % in one round trip`,
      );
    }
    const measured = median(shares);
    const note = scheduling.inForce
      ? `${REPLICAS + CLIENTS} processes share the processors, so all run under SCHED_BATCH: then none that wakes takes the processor from a client between its sends to two members; ${usual.toFixed(4)} in one run under the usual policy`
      : `one run before: ${usual.toFixed(4)}`;
    return [
      judged({
        name: 'clients-10k',
        what: `${CLIENTS} client processes, ${formatCount(LOW_RATE)} operations/s in all: share of commits in one round trip`,
        goal: '≥ 0.98',
        measured: measured.toFixed(4),
        figures: [{ value: measured, atLeast: 0.98 }],
        values: { share: measured, rounds: shares, usualScheduling: usual, batchScheduling: scheduling.inForce },
        note,
      }),
    ];
  },
};

export const besideRow: RowGroup = {
  names: ['beside'],
  async measure({ rounds, timing, progress }) {
    const shares: number[] = [];
    for (let round = 0; round < rounds; round++) {
      await using cluster = await startCluster();
      const [greedy, small] = [await startLoad(cluster, 1, GREEDY_LANES), await startLoad(cluster, 1)];
      try {
        const meanwhile = step(small, SMALL_RATE, 2, 0, timing.warmupMs + timing.ms);
        const { client } = await step(greedy, GREEDY_RATE, 1, timing.warmupMs, timing.ms);
        await meanwhile;
        shares.push(client.fast / client.committed);
      } finally {
        greedy.close();
        small.close();
      }
      progress(
        `a client with ${formatCount(GREEDY_LANES)} open beside another, round ${round + 1} of ${rounds}: ${(100 * shares.at(-1)!).toFixed(2)} % in one round trip`,
      );
    }
    const measured = median(shares);
    return [
      judged({
        name: 'beside',
        what: `a client with ${formatCount(GREEDY_LANES)} operations open, always, beside one with ${SMALL_RATE} operations/s: share of its commits in one round trip`,
        goal: '≥ 0.9',
        measured: measured.toFixed(4),
        figures: [{ value: measured, atLeast: 0.9 }],
        values: { share: measured, rounds: shares },
      }),
    ];
  },
};

export const halfPeakRows: RowGroup = {
  names: ['half-peak-p50', 'half-peak-slow'],
  async measure(effort) {
    const peak = await new OurCluster('peak', { transport: 'auto' }).run(
      { replicas: REPLICAS, clients: CLIENTS, open: LANES, bytes: BYTES, operation: 'write', machine: 'echo' },
      { warmupMs: effort.timing.warmupMs, ms: effort.timing.ms * 2 },
    );
    const rate = peak.opsPerSecond / 2;
    effort.progress(`peak of ${CLIENTS} clients: ${formatCount(peak.opsPerSecond)}/s`);
    const ratios: number[] = [];
    const slow: number[] = [];
    const completed: number[] = [];
    for (let round = 0; round < effort.rounds; round++) {
      const many = await measure(CLIENTS, rate, round, effort);
      const one = await measure(1, rate, round, effort);
      ratios.push(many.service.quantile(0.5) / one.service.quantile(0.5));
      // Each of these takes more than a round and a half; double counting makes the share larger, not smaller.
      slow.push((many.client.restamped + many.client.reconciled + many.client.retransmitted) / many.client.committed);
      completed.push(many.counts.completedInWindow / many.seconds / rate);
      effort.progress(
        `half of it, round ${round + 1} of ${effort.rounds}: p50 ${formatDuration(many.service.quantile(0.5))} with ${CLIENTS} clients, ${formatDuration(one.service.quantile(0.5))} with one; ${(100 * slow.at(-1)!).toFixed(3)} % slow`,
      );
    }
    const [ratio, share] = [median(ratios), median(slow)];
    const note = `half of the peak is ${formatCount(rate)}/s, of which ${(100 * median(completed)).toFixed(0)} % were completed in time`;
    return [
      judged({
        name: 'half-peak-p50',
        what: `${CLIENTS} client processes at half of their peak: p50 ÷ p50 of one client process at the same rate`,
        goal: '≤ 1.5',
        measured: ratio.toFixed(2),
        figures: [{ value: ratio, atMost: 1.5 }],
        values: { ratio, rounds: ratios, peakPerSecond: peak.opsPerSecond },
        note,
      }),
      judged({
        name: 'half-peak-slow',
        what: 'the same: share of requests that needed more than one and a half round trips',
        goal: '≤ 0.001',
        measured: share.toFixed(4),
        figures: [{ value: share, atMost: 0.001 }],
        values: { share, rounds: slow },
        note: 'requests restamped by the client, reconciled or sent again: an upper bound',
      }),
    ];
  },
};

export const slowMemberRows: RowGroup = {
  names: ['slow-member', 'slow-member-p50'],
  async measure(effort) {
    const leftMs: number[] = [];
    const ratios: number[] = [];
    const { warmupMs, ms } = effort.timing;
    for (let round = 0; round < effort.rounds; round++) {
      await using cluster = await startCluster();
      const load = await startLoad(cluster, 1);
      try {
        const before = await step(load, SLOW_RATE, 1, warmupMs * WARMUP_FACTOR, ms * 2);
        const status = await statusOf(cluster);
        const victim = status.members.find((id) => id !== status.primary)!;
        const slowed = new SlowedProcess(cluster.replicas[victim]!.child.pid!);
        try {
          const meanwhile = step(load, SLOW_RATE, 2, 0, LEAVE_LIMIT_MS);
          leftMs.push(await timeUntilWithout(cluster, victim));
          load.stop();
          await meanwhile;
          const after = await step(load, SLOW_RATE, 3, warmupMs, ms * 2);
          ratios.push(after.service.quantile(0.5) / before.service.quantile(0.5));
        } finally {
          slowed.stop();
        }
      } finally {
        load.close();
      }
      effort.progress(
        `slow member, round ${round + 1} of ${effort.rounds}: ${Number.isFinite(leftMs.at(-1)!) ? `out of the quorum after ${formatDuration(leftMs.at(-1)! * NS_PER_MS)}` : `still in the quorum after ${LEAVE_LIMIT_MS / 1000} s`}, p50 afterwards ${ratios.at(-1)!.toFixed(2)} times that before`,
      );
      if (!Number.isFinite(leftMs.at(-1)!)) break; // it will not in the next round either
    }
    const [left, ratio] = [median(leftMs), median(ratios)];
    return [
      judged({
        name: 'slow-member',
        what: 'a member of the quorum slowed tenfold: time until a view without it',
        goal: '≤ 1 s',
        measured: Number.isFinite(left) ? formatDuration(left * NS_PER_MS) : `not within ${LEAVE_LIMIT_MS / 1000} s`,
        figures: [{ value: left, atMost: 1_000 }],
        values: {
          ms: Number.isFinite(left) ? left : null,
          rounds: leftMs.map((value) => (Number.isFinite(value) ? value : null)),
        },
        note: `slowed by stopping its process for ${PERIOD_MS - RUNNING_MS} of every ${PERIOD_MS} ms`,
      }),
      judged({
        name: 'slow-member-p50',
        what: 'the same: p50 afterwards ÷ before',
        goal: '≤ 1.1',
        measured: ratio.toFixed(2),
        figures: [{ value: ratio, atMost: 1.1 }],
        values: { ratio, rounds: ratios },
      }),
    ];
  },
};

/** Lets a process run for a tenth of the time. It runs normally again after `stop`, and at the end of this process. */
class SlowedProcess {
  private readonly timer: NodeJS.Timeout;
  private resuming: NodeJS.Timeout | undefined;
  private readonly resume = (): void => this.signal('SIGCONT');

  constructor(private readonly pid: number) {
    process.once('exit', this.resume);
    this.timer = setInterval(() => {
      this.signal('SIGCONT');
      this.resuming = setTimeout(() => this.signal('SIGSTOP'), RUNNING_MS);
    }, PERIOD_MS);
    this.signal('SIGSTOP');
  }

  stop(): void {
    clearInterval(this.timer);
    clearTimeout(this.resuming);
    this.resume();
    process.removeListener('exit', this.resume);
  }

  private signal(signal: NodeJS.Signals): void {
    try {
      process.kill(this.pid, signal);
    } catch {
      // it has ended; whatever waits for it gets the error
    }
  }
}

/** Status of the replica with the highest view. */
async function statusOf(cluster: LocalCluster, except?: number): Promise<ReplicaStatusReport> {
  const answers = await Promise.all(
    cluster.replicas.filter(({ id }) => id !== except).map((replica) => replica.ask('stats')),
  );
  const reports = answers
    .map((answer) => answer?.status as ReplicaStatusReport | undefined)
    .filter((report) => report !== undefined);
  return reports.reduce((highest, report) => (report.view > highest.view ? report : highest));
}

/** Milliseconds; Infinity if it took too long. */
async function timeUntilWithout(cluster: LocalCluster, victim: number): Promise<number> {
  const startedMs = performance.now();
  while (performance.now() - startedMs < LEAVE_LIMIT_MS) {
    const status = await statusOf(cluster, victim);
    if (status.status === 'normal' && !status.members.includes(victim)) return performance.now() - startedMs;
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
  return Infinity;
}
