/**
 * What keys cost: a cluster whose datagrams are encrypted, one whose datagrams have an HMAC (the wire version before),
 * and one without keys, measured alternately.
 *
 *   npm run bench:authentication -- [--rounds 7] [--seconds 2s] [--json]
 *   npm run bench:authentication -- --chain the keyed chain's share: with keys, compared with the older chain
 *   npm run bench:authentication -- --envelope only sealing and opening datagrams, in seconds: see envelope-cost.ts
 */
import { OurCluster } from '../src/measure/compare/cluster.js';
import type { Contestant, Measured } from '../src/measure/compare/contestant.js';
import { median, mediansOf, ratioOf, runRounds } from '../src/measure/compare/rounds.js';
import type { Point } from '../src/measure/compare/shape.js';
import { CliError } from '../src/console/exit.js';
import { hostInfo } from '../src/measure/load/bench-report.js';
import { formatCount, formatDuration } from '../src/console/units.js';
import { version } from '../src/host/version.js';
import { DEFAULT_DATAGRAM_BYTES } from '../src/wire/envelope.js';
import { PREVIOUS_WIRE_VERSION } from '../src/wire/versions.js';
import { envelopeCosts, envelopeRow, envelopeTable } from './envelope-cost.js';
import { checkMissed, goalsTable, judged, type RowResult } from './goals/row.js';
import type { Output } from '../src/console/command.js';
import { program } from './program.js';

const OPEN = 512;
/** Datagrams as on Ethernet; otherwise they are as long as loopback allows. */
const ETHERNET_BYTES = DEFAULT_DATAGRAM_BYTES;
const LATENCY_GOAL = 1.04;
const RATE_GOAL = 0.93;
const ETHERNET_GOAL = 0.9;
const HMAC_GOAL = 1.08;
const CHAIN_GOAL = 0.97;
const ENVELOPE_ROUNDS = 41;

const pointOf = (open: number): Point => ({
  replicas: 3,
  clients: 1,
  open,
  bytes: 64,
  operation: 'write',
  machine: 'echo',
});
const p50 = ({ histogram }: Measured): number => histogram.quantile(0.5);

function contestant(
  name: string,
  open: number,
  authenticated: boolean,
  {
    unkeyedChain = false,
    wireVersion,
    datagramBytes,
  }: {
    readonly unkeyedChain?: boolean;
    readonly wireVersion?: number;
    readonly datagramBytes?: number;
  } = {},
): Contestant {
  const held = wireVersion === undefined ? {} : { wireVersion };
  const ours = new OurCluster(name, { transport: 'auto' }, { authenticated, unkeyedChain, ...held });
  const point = datagramBytes === undefined ? pointOf(open) : { ...pointOf(open), datagramBytes };
  return { name, run: (_, timing) => ours.run(point, timing) };
}

await program(
  {
    name: 'npm run bench:authentication --',
    summary: 'Measures what authentication costs, and says which goals hold.',
    positionals: [],
    flags: {
      rounds: { kind: 'count', default: '7', min: 1, max: 1000, help: 'rounds of one run of each' },
      seconds: { kind: 'duration', default: '2s', min: 1e7, max: 3.6e12, help: 'how long a run is measured' },
      warmup: {
        kind: 'duration',
        default: '8s',
        max: 3.6e12,
        help: 'how long it runs before: V8 compiles beside the load',
      },
      chain: { kind: 'switch', help: 'instead: with keys and the keyed chain, beside keys and the chain of before' },
      envelope: { kind: 'switch', help: 'instead: only what sealing and opening one datagram costs' },
      strict: { kind: 'switch', help: 'exit with 4 when a goal is missed' },
    },
    examples: [
      'npm run bench:authentication',
      'npm run bench:authentication -- --chain --rounds 15',
      'npm run bench:authentication -- --envelope',
      'npm run bench:authentication -- --rounds 15 --json',
    ],
  },
  async ({ rounds, seconds, warmup, chain, envelope, strict }, output) => {
    if (chain && envelope)
      throw new CliError('flag-invalid', '--chain and --envelope are two measurements; give one of them');
    const startedMs = performance.now();
    const costs = chain ? [] : envelopeCosts(ENVELOPE_ROUNDS);
    const rows = envelope ? [] : await clusterRows(chain, { rounds, seconds, warmup }, output);
    if (!chain) rows.push(envelopeRow(costs));
    const result = {
      schema: 'jitpaxos.authentication/1',
      rows,
      missed: rows.filter(({ holds }) => !holds).map(({ name }) => name),
      rounds,
      seconds: (performance.now() - startedMs) / 1000,
      host: hostInfo(),
      version: version(),
    };
    if (output.json) output.line(JSON.stringify(result));
    else {
      if (!chain) output.line(`${envelopeTable(costs)}\n`);
      output.line(goalsTable(rows, result.seconds));
    }
    checkMissed(result.missed, strict);
  },
);

interface ClusterEffort {
  readonly rounds: number;
  /** ns */
  readonly seconds: number;
  readonly warmup: number;
}

/** The rows that compare whole clusters. */
async function clusterRows(
  chain: boolean,
  { rounds, seconds, warmup }: ClusterEffort,
  output: Output,
): Promise<RowResult[]> {
  const contestants = chain
    ? [
        contestant(`${OPEN} open, keys, chain of before`, OPEN, true, { unkeyedChain: true }),
        contestant(`${OPEN} open, keys, keyed chain`, OPEN, true),
      ]
    : [
        contestant('1 open', 1, false),
        contestant('1 open, keys', 1, true),
        contestant(`${OPEN} open`, OPEN, false),
        contestant(`${OPEN} open, keys`, OPEN, true),
        contestant(`${OPEN} open, HMAC`, OPEN, true, { wireVersion: PREVIOUS_WIRE_VERSION }),
        contestant(`${OPEN} open, 1,432 bytes`, OPEN, false, { datagramBytes: ETHERNET_BYTES }),
        contestant(`${OPEN} open, 1,432 bytes, keys`, OPEN, true, { datagramBytes: ETHERNET_BYTES }),
      ];
  const measured = await runRounds(
    contestants,
    pointOf(1),
    { warmupMs: warmup / 1e6, ms: seconds / 1e6 },
    rounds,
    (round, name, run) =>
      output.note(
        `round ${round + 1} of ${rounds}: ${name}: p50 ${formatDuration(p50(run))}, ${formatCount(run.opsPerSecond)}/s`,
      ),
  );
  const of = (index: number): readonly Measured[] => measured.get(contestants[index]!.name)!;
  return chain
    ? [
        rateRow(
          `chain-${OPEN}`,
          `${OPEN} open, keys: operations/s with the keyed chain ÷ with that of before`,
          CHAIN_GOAL,
          ['keyed', 'before'],
          of(1),
          of(0),
        ),
      ]
    : [
        latencyRow(of(1), of(0)),
        rateRow(
          `authentication-${OPEN}`,
          `${OPEN} open: operations/s with keys ÷ without`,
          RATE_GOAL,
          ['keys', 'none'],
          of(3),
          of(2),
        ),
        rateRow(
          `authentication-${OPEN}-ethernet`,
          `${OPEN} open, datagrams of 1,432 bytes: operations/s with keys ÷ without`,
          ETHERNET_GOAL,
          ['keys', 'none'],
          of(6),
          of(5),
        ),
        rateRow(
          `encryption-${OPEN}`,
          `${OPEN} open: operations/s encrypted ÷ with an HMAC`,
          HMAC_GOAL,
          ['encrypted', 'hmac'],
          of(3),
          of(4),
        ),
      ];
}

function latencyRow(keys: readonly Measured[], none: readonly Measured[]): RowResult {
  const ratio = ratioOf(keys, none, p50);
  const [ours, without] = [median(keys.map(p50)), median(none.map(p50))];
  return judged({
    name: 'authentication-1',
    what: '1 open: p50 with keys ÷ without',
    goal: `≤ ${LATENCY_GOAL}`,
    measured: `${ratio.toFixed(2)} (${formatDuration(ours)} / ${formatDuration(without)})`,
    figures: [{ value: ratio, atMost: LATENCY_GOAL }],
    values: { ratio, p50Ns: { keys: ours, none: without } },
  });
}

function rateRow(
  name: string,
  what: string,
  goal: number,
  names: readonly [string, string],
  keys: readonly Measured[],
  none: readonly Measured[],
): RowResult {
  const ratio = ratioOf(keys, none, ({ opsPerSecond }) => opsPerSecond);
  const [ours, without] = [mediansOf(keys).opsPerSecond, mediansOf(none).opsPerSecond];
  return judged({
    name,
    what,
    goal: `≥ ${goal}`,
    measured: `${ratio.toFixed(2)} (${formatCount(ours)}/s / ${formatCount(without)}/s)`,
    figures: [{ value: ratio, atLeast: goal }],
    values: { ratio, opsPerSecond: { [names[0]]: ours, [names[1]]: without } },
  });
}
