/** Rows that compare with a baseline, or count operations, with the contestants of `bench compare`. */
import { CEcho, type EchoProgram } from '../../src/measure/compare/c-echo.js';
import { OurCluster } from '../../src/measure/compare/cluster.js';
import type { Contestant, Measured } from '../../src/measure/compare/contestant.js';
import { DgramEcho } from '../../src/measure/compare/dgram-echo.js';
import { median, mediansOf, ratioOf, runRounds } from '../../src/measure/compare/rounds.js';
import type { Point } from '../../src/measure/compare/shape.js';
import { connect, Namespace } from '../../src/measure/namespaces.js';
import { formatCount, formatDuration } from '../../src/console/units.js';
import { DEFAULT_DATAGRAM_BYTES, JUMBO_DATAGRAM_BYTES } from '../../src/wire/envelope.js';
import { judged, type Effort, type RowGroup, type RowResult } from './row.js';

const NS_PER_MS = 1e6;
const P99_GOAL_NS = 2 * NS_PER_MS;
const KV_SHARE = 0.6;
const ETHERNET_MTU = 1_500;
const NAMESPACE_ROW = 'native-512-veth';

const pointOf = (open: number, machine: Point['machine'] = 'echo'): Point => ({
  replicas: 3,
  clients: 1,
  open,
  bytes: 64,
  operation: 'write',
  machine,
});

/** Our latency with one open operation, as a multiple of a baseline's. */
export function latencyRow(name: string, what: string, goal: number, ours: OurCluster, baseline: Contestant): RowGroup {
  return {
    names: [name],
    async measure(effort) {
      const [mine, theirs] = await both(ours, baseline, pointOf(1), effort);
      const ratio = ratioOf(mine, theirs, ({ histogram }) => histogram.quantile(0.5));
      const [a, b] = [mediansOf(mine), mediansOf(theirs)];
      const row = judged({
        name,
        what,
        goal: `≤ ${goal}`,
        measured: `${ratio.toFixed(2)} (${formatDuration(a.latencyNs.p50)} / ${formatDuration(b.latencyNs.p50)})`,
        figures: [{ value: ratio, atMost: goal }],
        values: {
          ratioP50: ratio,
          ours: a,
          baseline: { name: baseline.name, ...b },
          ratiosOfRounds: mine.map((run, i) => run.histogram.quantile(0.5) / theirs[i]!.histogram.quantile(0.5)),
        },
        ...noteOf(mine, theirs),
      });
      return [row];
    },
  };
}

/** Throughput rows, and the store's share of each: all run in the same rounds. */
export function throughputRows(program: EchoProgram): RowGroup {
  const native = { transport: 'native', idle: 'block' } as const;
  const dgram = { transport: 'dgram' } as const;
  return {
    names: ['native-32', 'native-512', 'native-512-c', 'dgram-512', 'kv'],
    async measure(effort) {
      const echo = new CEcho(program, 'block');
      const at32 = await withStore(native, 32, effort);
      const at512 = await withStore(native, 512, effort, echo);
      // With longer datagrams the C program has almost nothing left to do; a fair comparison uses datagrams that a
      // network carries.
      const onEthernet = await both(
        new OurCluster('echo', native),
        echo,
        { ...pointOf(512), datagramBytes: DEFAULT_DATAGRAM_BYTES },
        effort,
      );
      const overDgram = await withStore(dgram, 512, effort);
      const p99 = median(at512.ours.map(({ histogram }) => histogram.quantile(0.99)));
      const rates = [at32, at512, overDgram].map(({ ours }) => mediansOf(ours).opsPerSecond) as [
        number,
        number,
        number,
      ];
      const shareOf = (ours: readonly Measured[], theirs: readonly Measured[]): number =>
        ratioOf(ours, theirs, ({ opsPerSecond }) => opsPerSecond);
      const shareOfC = shareOf(...onEthernet);
      const shareOfLongDatagrams = shareOf(at512.ours, at512.baseline!);
      const [ourRate, theirRate] = onEthernet.map((runs) => formatCount(mediansOf(runs).opsPerSecond)) as [
        string,
        string,
      ];
      const shares = [at32, at512, overDgram].map(({ ours, store }) => shareOf(store, ours));
      return [
        rateRow('native-32', '32 operations open, one client process, native block', 200_000, rates[0], at32.ours),
        {
          ...rateRow('native-512', '512 open, native block; p99', 700_000, rates[1], at512.ours, p99),
          values: { opsPerSecond: rates[1], p99Ns: p99, perDatagram: perDatagram(at512.ours) },
        },
        judged({
          name: 'native-512-c',
          what: `512 open, native block, datagrams of ${formatCount(DEFAULT_DATAGRAM_BYTES)} bytes as on Ethernet: operations/s ÷ C blocking echo with the same coalescing`,
          goal: '≥ 0.5',
          measured: `${shareOfC.toFixed(2)} (${ourRate} / ${theirRate})`,
          figures: [{ value: shareOfC, atLeast: 0.5 }],
          values: {
            ratio: shareOfC,
            ours: mediansOf(onEthernet[0]),
            baseline: mediansOf(onEthernet[1]),
            longDatagrams: { ratio: shareOfLongDatagrams, baseline: mediansOf(at512.baseline!) },
          },
          note: `with datagrams of ${formatCount(JUMBO_DATAGRAM_BYTES)} bytes, as on loopback by default and in the row before: ${shareOfLongDatagrams.toFixed(2)} of ${formatCount(mediansOf(at512.baseline!).opsPerSecond)}/s`,
        }),
        rateRow('dgram-512', '512 open, dgram', 150_000, rates[2], overDgram.ours),
        judged({
          name: 'kv',
          what: 'key-value store instead of echo, share of the three rates above in the same rounds',
          goal: `≥ ${KV_SHARE}`,
          measured: shares.map((share) => share.toFixed(2)).join(', '),
          figures: shares.map((value) => ({ value, atLeast: KV_SHARE })),
          values: { shares: { 'native-32': shares[0], 'native-512': shares[1], 'dgram-512': shares[2] } },
        }),
      ];
    },
  };
}

/**
 * The row native-512-c with a cable between servers and clients: they are in two network namespaces, joined by a veth
 * pair with Ethernet's MTU. To be measured inside of src/measure/namespaces.ts.
 */
export function namespaceRow(program: EchoProgram): RowGroup {
  return {
    names: [NAMESPACE_ROW],
    async measure(effort) {
      const [servers, clients] = [new Namespace('servers'), Namespace.own()];
      const placement = { servers, serverAddress: '10.79.0.1', clientAddress: '10.79.0.2' };
      connect(
        { in: servers, name: 'cable', addresses: [`${placement.serverAddress}/24`] },
        { in: clients, name: 'cable', addresses: [`${placement.clientAddress}/24`] },
        ETHERNET_MTU,
      );
      const [ours, theirs] = await both(
        new OurCluster('echo', { transport: 'native', idle: 'block' }, { placement }),
        new CEcho(program, 'block', placement),
        { ...pointOf(512), datagramBytes: DEFAULT_DATAGRAM_BYTES },
        effort,
      );
      const share = ratioOf(ours, theirs, ({ opsPerSecond }) => opsPerSecond);
      const [rate, theirRate] = [ours, theirs].map((runs) => mediansOf(runs).opsPerSecond) as [number, number];
      return [
        judged({
          name: NAMESPACE_ROW,
          what: `512 open, native block, between two network namespaces with an MTU of ${formatCount(ETHERNET_MTU)}, datagrams of ${formatCount(DEFAULT_DATAGRAM_BYTES)} bytes: operations/s ÷ C blocking echo with the same coalescing there`,
          goal: '≥ 0.5',
          measured: `${share.toFixed(2)} (${formatCount(rate)} / ${formatCount(theirRate)})`,
          figures: [{ value: share, atLeast: 0.5 }],
          values: { ratio: share, ours: mediansOf(ours), baseline: mediansOf(theirs) },
        }),
      ];
    },
  };
}

async function withStore(
  wiring: ConstructorParameters<typeof OurCluster>[1],
  open: number,
  effort: Effort,
  baseline?: Contestant,
): Promise<{ ours: readonly Measured[]; store: readonly Measured[]; baseline: readonly Measured[] | undefined }> {
  const echo = new OurCluster('echo', wiring);
  const kv = new OurCluster('kv', wiring);
  const store: Contestant = { name: kv.name, run: (point, timing) => kv.run({ ...point, machine: 'kv' }, timing) };
  const measured = await runRounds(
    [echo, store, ...(baseline === undefined ? [] : [baseline])],
    pointOf(open),
    effort.timing,
    effort.rounds,
    tell(effort, `${open} open, ${wiring.transport}`),
  );
  return {
    ours: measured.get('echo')!,
    store: measured.get('kv')!,
    baseline: baseline && measured.get(baseline.name)!,
  };
}

function rateRow(
  name: string,
  what: string,
  goal: number,
  rate: number,
  runs: readonly Measured[],
  p99?: number,
): RowResult {
  return judged({
    name,
    what,
    goal: `≥ ${formatCount(goal)}/s${p99 === undefined ? '' : `; ≤ ${formatDuration(P99_GOAL_NS)}`}`,
    measured: `${formatCount(rate)}/s${p99 === undefined ? '' : `; ${formatDuration(p99)}`}`,
    figures: [{ value: rate, atLeast: goal }, ...(p99 === undefined ? [] : [{ value: p99, atMost: P99_GOAL_NS }])],
    values: { opsPerSecond: rate, perDatagram: perDatagram(runs) },
  });
}

function perDatagram(runs: readonly Measured[]): number {
  return median(runs.map((run) => run.perDatagram ?? 0));
}

async function both(
  ours: OurCluster,
  baseline: Contestant,
  point: Point,
  effort: Effort,
): Promise<[readonly Measured[], readonly Measured[]]> {
  const measured = await runRounds([ours, baseline], point, effort.timing, effort.rounds, tell(effort, ours.name));
  return [measured.get(ours.name)!, measured.get(baseline.name)!];
}

function noteOf(mine: readonly Measured[], theirs: readonly Measured[]): { note?: string } {
  if (mine[0]!.processes.servers > 1) return {};
  const theirServers = theirs[0]!.processes.servers;
  return {
    note: `this host has too few cores for a polling process each: the replicas share one process${theirServers === 1 ? ', the C servers too' : ''}`,
  };
}

function tell(effort: Effort, what: string) {
  return (round: number, name: string, { histogram, opsPerSecond }: Measured): void =>
    effort.progress(
      `${what}, round ${round + 1} of ${effort.rounds}: ${name}: p50 ${formatDuration(histogram.quantile(0.5))}, ${formatCount(opsPerSecond)}/s`,
    );
}

export function latencyRows(program: EchoProgram): RowGroup[] {
  return [
    latencyRow(
      'one-adaptive',
      '1 operation open, adaptive, a process a replica: our p50 ÷ C blocking echo',
      1.2,
      new OurCluster('native adaptive', { transport: 'native', idle: 'adaptive' }),
      new CEcho(program, 'block'),
    ),
    latencyRow(
      'one-busy',
      '1 operation open, busy: our p50 ÷ C spinning echo',
      1.15,
      new OurCluster('native busy', { transport: 'native', idle: 'busy' }),
      new CEcho(program, 'spin'),
    ),
    latencyRow(
      'one-dgram',
      '1 operation open, dgram: our p50 ÷ bare dgram echo',
      1.25,
      new OurCluster('dgram', { transport: 'dgram' }),
      new DgramEcho(),
    ),
  ];
}
