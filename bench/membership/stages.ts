/**
 * Where the time of a change of the members goes: when its stages were reached, by the log lines of the replicas' processes
 * and the clock of the host on which they all run.
 */
import type { ReplicaProcess } from '../../src/measure/local-cluster.js';
import type { Window } from './steady-client.js';

/** Milliseconds from the moment at which the first view of the next epoch was asked for. Until then all is as ever. */
export interface Stages {
  /** The first replica knew that the change is decided; negative. */
  readonly decidedMs: number;
  /** The new primary had its log, and began the view. */
  readonly startedMs: number;
  /** The last member of the view that said so had joined it. */
  readonly joinedMs: number;
  /** The client's longest pause began, and ended with a commit. */
  readonly pausedMs: number;
  readonly committedMs: number;
}

interface Line {
  readonly time: string;
  readonly event: string;
  readonly view?: number;
  readonly detail?: string;
}

/**
 * The stages of the change that began last. Undefined if the lines do not tell them, as when another view was needed.
 * @param members ids in the view that begins the epoch
 */
export function stagesOf(
  replicas: readonly ReplicaProcess[],
  members: readonly number[],
  during: Window,
): Stages | undefined {
  const lines = new Map(replicas.map((replica) => [replica.id, linesOf(replica)]));
  const all = [...lines.values()].flat();
  const asked = last(
    all,
    (line) => line.event === 'replica.ask-view' && line.detail?.includes('; for epoch ') === true,
  );
  if (asked === undefined) return undefined;
  const [, view, epoch] = /^view (\d+); for epoch (\d+)$/.exec(asked.detail!) ?? [];
  if (epoch === undefined) return undefined;
  const since = (line: Line): number => Date.parse(line.time) - Date.parse(asked.time);
  const decided = all.filter(
    ({ event, detail }) => event === 'replica.change-decided' && detail?.startsWith(`epoch ${epoch},`) === true,
  );
  const started = last(all, (line) => line.event === 'replica.start-view' && line.view === Number(view));
  const joined = members
    .flatMap((id) => lines.get(id) ?? [])
    .filter((line) => line.event === 'replica.join-view' && line.view === Number(view));
  if (decided.length === 0 || started === undefined || joined.length === 0) return undefined;
  const pauseEndMs = during.endedMs - during.seconds * 1e3 + during.longestPauseEndMs - Date.parse(asked.time);
  return {
    decidedMs: Math.min(...decided.map(since)),
    startedMs: since(started),
    joinedMs: Math.max(...joined.map(since)),
    pausedMs: pauseEndMs - during.longestPauseNs / 1e6,
    committedMs: pauseEndMs,
  };
}

/** The lines of its log that are still kept, oldest first. */
function linesOf({ complaint }: ReplicaProcess): Line[] {
  return complaint.split('\n').flatMap((text) => {
    if (!text.startsWith('{') || !text.endsWith('}')) return [];
    try {
      return [JSON.parse(text) as Line];
    } catch {
      return []; // its beginning is not kept any more
    }
  });
}

function last(lines: readonly Line[], fits: (line: Line) => boolean): Line | undefined {
  return lines
    .filter(fits)
    .sort((a, b) => Date.parse(a.time) - Date.parse(b.time))
    .at(-1);
}

/** For people. */
export function stagesText({ decidedMs, startedMs, joinedMs, pausedMs, committedMs }: Stages): string {
  return `decided ${(-decidedMs).toFixed(0)} ms before the first view was asked for; view begun after ${startedMs.toFixed(0)} ms, joined by its members after ${joinedMs.toFixed(0)}, longest pause of the client from ${pausedMs.toFixed(0)} to ${committedMs.toFixed(0)}`;
}
