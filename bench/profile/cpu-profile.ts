/**
 * The output of V8's sampling profiler (`--cpu-prof`, the format of the DevTools protocol's Profiler.Profile): the
 * samples of a time span, merged by function.
 *
 * A sample shows what the main thread was doing at one moment. Idle samples are counted and left out of everything
 * else. Shares are by number of samples, not by the time between them: a process that waits for a core is not sampled,
 * and the sample after a long wait says no more than any other.
 *
 * Node tells V8 that it is idle for the whole poll phase of the event loop, in which it also receives datagrams.
 * Processor time of the thread that the kernel counted and no sample shows was spent there: it is added as a separate
 * entry.
 */
import { median } from '../../src/measure/compare/rounds.js';

/** Whose code a frame is. `native`: compiled code, of the addon and of Node; `collector`: garbage collection. */
export type FrameKind = 'ours' | 'node' | 'native' | 'collector';

export interface FrameName {
  readonly name: string;
  /** `file:line`, or a substitute if there is no source. */
  readonly place: string;
  readonly kind: FrameKind;
}

/** As V8 writes it; lines and columns from 0, and −1 without a source. */
export interface CallFrame {
  readonly functionName: string;
  readonly url: string;
  readonly lineNumber: number;
  readonly columnNumber: number;
}

interface ProfileNode {
  readonly id: number;
  readonly callFrame: CallFrame;
  readonly children?: readonly number[];
}

export interface CpuProfile {
  readonly nodes: readonly ProfileNode[];
  /** µs of CLOCK_MONOTONIC. */
  readonly startTime: number;
  /** Node ids. */
  readonly samples: readonly number[];
  /** µs since the previous sample, for the first since `startTime`. */
  readonly timeDeltas: readonly number[];
}

/** A function as called along one path. */
export interface Frame extends FrameName {
  /** Samples in it and in the functions it calls. */
  total: number;
  self: number;
  readonly callees: Map<string, Frame>;
}

/** A function, however it was called. */
export interface FunctionSamples extends FrameName {
  readonly self: number;
}

export interface ProcessProfile {
  /** Samples that were not idle, plus those of the poll phase that only seemed idle. */
  readonly busy: number;
  /** Samples that V8 considered idle. */
  readonly idle: number;
  /** `total` is `busy`. */
  readonly root: Frame;
  /** By self time, the most expensive first. */
  readonly functions: readonly FunctionSamples[];
}

export interface Span {
  readonly startedNs: number;
  readonly endedNs: number;
}

const IDLE = '(idle)';
const ROOT: FrameName = { name: 'all', place: '', kind: 'native' };
export const POLL_PHASE: FrameName = {
  name: 'event loop: receiving, waking',
  place: 'native, by CPU time',
  kind: 'native',
};

/**
 * @param span by CLOCK_MONOTONIC; samples before and after it do not count
 * @param cpuSeconds of the sampled thread in that span; null: unknown, and the poll phase is left out
 */
export function readProfile(
  profile: CpuProfile,
  span: Span,
  cpuSeconds: number | null,
  nameOf: (frame: CallFrame) => FrameName,
): ProcessProfile {
  const counts = countSamples(profile, span);
  const nodes = new Map(profile.nodes.map((node) => [node.id, node]));
  const root = frameOf(ROOT);
  const functions = new Map<string, { name: FrameName; self: number }>();
  let idle = 0;
  const add = (node: ProfileNode, caller: Frame): number => {
    const self = counts.get(node.id) ?? 0;
    if (node.callFrame.functionName === IDLE) {
      idle += self;
      return 0;
    }
    const isRoot = caller === root && node === profile.nodes[0];
    const name = isRoot ? root : nameOf(node.callFrame);
    const key = `${name.name} ${name.place}`;
    const frame = isRoot ? root : (caller.callees.get(key) ?? frameOf(name));
    let total = self;
    for (const id of node.children ?? []) total += add(nodes.get(id)!, frame);
    frame.self += self;
    frame.total += total;
    if (!isRoot && frame.total > 0) caller.callees.set(key, frame);
    if (!isRoot && self > 0) {
      const known = functions.get(key) ?? { name, self: 0 };
      known.self += self;
      functions.set(key, known);
    }
    return total;
  };
  if (profile.nodes.length > 0) add(profile.nodes[0]!, root);
  const polling =
    cpuSeconds === null
      ? 0
      : Math.min(
          idle,
          Math.max(0, Math.round((cpuSeconds * 1e6) / samplingPeriodUs(profile, span, nodes)) - root.total),
        );
  if (polling > 0) {
    root.callees.set(POLL_PHASE.name, { ...frameOf(POLL_PHASE), self: polling, total: polling });
    functions.set(POLL_PHASE.name, { name: POLL_PHASE, self: polling });
    root.total += polling;
  }
  const costliest = [...functions.values()]
    .sort((a, b) => b.self - a.self)
    .map(({ name, self }) => ({ ...name, self }));
  return { busy: root.total, idle, root, functions: costliest };
}

function frameOf({ name, place, kind }: FrameName): Frame {
  return { name, place, kind, total: 0, self: 0, callees: new Map() };
}

function countSamples(profile: CpuProfile, span: Span): Map<number, number> {
  const counts = new Map<number, number>();
  eachSample(profile, span, (id) => counts.set(id, (counts.get(id) ?? 0) + 1));
  return counts;
}

/**
 * The sampler's actual period, which is longer than requested: the median between two samples of work. Infinite if
 * there are none.
 */
function samplingPeriodUs(profile: CpuProfile, span: Span, nodes: ReadonlyMap<number, ProfileNode>): number {
  const periods: number[] = [];
  let afterWork = false;
  eachSample(profile, span, (id, deltaUs) => {
    const work = nodes.get(id)!.callFrame.functionName !== IDLE;
    if (work && afterWork) periods.push(deltaUs);
    afterWork = work;
  });
  return periods.length === 0 ? Infinity : median(periods);
}

function eachSample(
  { startTime, samples, timeDeltas }: CpuProfile,
  { startedNs, endedNs }: Span,
  visit: (id: number, deltaUs: number) => void,
): void {
  let atUs = startTime;
  samples.forEach((id, index) => {
    atUs += timeDeltas[index]!;
    if (atUs * 1000 >= startedNs && atUs * 1000 <= endedNs) visit(id, timeDeltas[index]!);
  });
}
