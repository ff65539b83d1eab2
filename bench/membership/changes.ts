/** The changes that bench:membership makes in turn, and what it measures around each. */
import type { MemberRequest } from '../../src/cli/members/plan.js';
import { CliError } from '../../src/console/exit.js';
import type { LineChild } from '../../src/measure/compare/line-child.js';
import type { JoiningProcess } from '../../src/measure/local-cluster.js';
import { Histogram } from '../../src/metrics/histogram.js';
import type { ChangingCluster, Parts } from './changing-cluster.js';
import { stagesOf, type Stages } from './stages.js';
import type { Window } from './steady-client.js';

/** In the order of a round. Three voters become five, seven, five and three again. */
export const CHANGES = [
  'replace-member',
  'replace-spare',
  'replace-primary',
  'three-to-five',
  'five-to-seven',
  'seven-to-five',
  'five-to-three',
  'dead-primary',
  'dead-member',
] as const;
export type Change = (typeof CHANGES)[number];

/** By change: the voters before it, and after it. */
const VOTERS: Readonly<Record<Change, readonly [number, number]>> = {
  'replace-member': [3, 3],
  'replace-spare': [3, 3],
  'replace-primary': [3, 3],
  'three-to-five': [3, 5],
  'five-to-seven': [5, 7],
  'seven-to-five': [7, 5],
  'five-to-three': [5, 3],
  'dead-primary': [3, 3],
  'dead-member': [3, 3],
};

export function isPlanned(change: Change): boolean {
  return !change.startsWith('dead-');
}

/** The chosen changes, `count` of them, in rounds. Throws CliError `flag-invalid` where one does not follow another. */
export function planOf(chosen: readonly Change[], count: number): readonly Change[] {
  const plan = Array.from({ length: count }, (_, i) => chosen[i % chosen.length]!);
  let voters = 3;
  for (const change of plan) {
    const [before, after] = VOTERS[change];
    if (before !== voters)
      throw new CliError(
        'flag-invalid',
        `--only: ${change} is for ${before} voters, and there are ${voters} then; choose changes that follow one another, as ${CHANGES.join(',')} do`,
      );
    voters = after;
  }
  return plan;
}

/** Of one change. Windows of the load's client. */
export interface Changed {
  readonly change: Change;
  readonly steady: Window;
  /** From the death of the host until all others serve again; only if it died. */
  readonly failover: Window | undefined;
  /** A host that joins is added as a learner, starts, and copies the state; only if one joins. */
  readonly copying: Window | undefined;
  /** From the operator's command until all voters of the next epoch serve. */
  readonly during: Window;
  readonly after: Window;
  /** As long as `during`, without a change: what the load, the host and this bench do by themselves. */
  readonly control: Window;
  /** Undefined if the replicas' logs do not tell them. */
  readonly stages: Stages | undefined;
}

export interface Pauses {
  /** How long it is looked at before a change, and after it. */
  readonly steadyMs: number;
}

/** What the client of the load measured since this was asked the last time. */
export async function windowOf(client: LineChild): Promise<Window> {
  client.go();
  return client.result<Window>(0);
}

export async function makeChange(
  change: Change,
  cluster: ChangingCluster,
  client: LineChild,
  { steadyMs }: Pauses,
): Promise<Changed> {
  const added = await cluster.joiners(joining(change));
  const parts = await cluster.settled();
  const victims = victimsOf(change, parts);
  await sleep(steadyMs / 2); // what was started before has come to rest
  await windowOf(client);
  await sleep(steadyMs);
  const steady = await windowOf(client);
  let failover: Window | undefined;
  if (!isPlanned(change)) {
    for (const id of victims) cluster.cluster.replicas[id]!.kill('SIGKILL');
    await cluster.settled(victims);
    await sleep(steadyMs / 2);
    failover = await windowOf(client);
  }
  let copying: Window | undefined;
  for (const joiner of added) await cluster.learner(joiner);
  if (added.length > 0) {
    await sleep(steadyMs / 2);
    copying = await windowOf(client);
  }
  await cluster.change(requestOf(change, victims, added));
  const began = await cluster.settled();
  const during = await windowOf(client);
  const stages = stagesOf(cluster.cluster.replicas, [began.primary, ...began.members], during);
  await sleep(steadyMs);
  const after = await windowOf(client);
  await sleep(during.seconds * 1e3);
  const control = await windowOf(client);
  await cluster.retire(victims);
  return { change, steady, failover, copying, during, after, control, stages };
}

/** How many processes it adds. */
function joining(change: Change): number {
  const [before, after] = VOTERS[change];
  return before === after ? 1 : Math.max(0, after - before);
}

function requestOf(change: Change, victims: readonly number[], added: readonly JoiningProcess[]): MemberRequest {
  const usual = { allowEven: false, force: false };
  if (added.length === 0) return { kind: 'remove', ids: victims, ...usual };
  if (victims.length === 0) return { kind: 'promote', ids: added.map(({ process }) => process.id), ...usual };
  return { kind: 'replace', id: victims[0]!, address: added[0]!.address, alive: isPlanned(change), ...usual };
}

/** Who leaves. Of several one is the primary every time: that is the hardest case. */
function victimsOf(change: Change, { primary, members, spares }: Parts): readonly number[] {
  switch (change) {
    case 'replace-member':
    case 'dead-member':
      return [members[0]!];
    case 'replace-spare':
      return [spares[0]!];
    case 'replace-primary':
    case 'dead-primary':
      return [primary];
    case 'three-to-five':
    case 'five-to-seven':
      return [];
    case 'seven-to-five':
    case 'five-to-three':
      return [primary, spares[0]!];
  }
}

/** All windows as one. */
export function merged(windows: readonly Window[]): Histogram {
  const whole = new Histogram();
  for (const { histogram } of windows) whole.merge(Histogram.fromData(histogram));
  return whole;
}

export function pauseMs({ longestPauseNs }: Window): number {
  return longestPauseNs / 1e6;
}

export function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
