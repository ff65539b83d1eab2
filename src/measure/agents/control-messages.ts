/**
 * The messages of a control channel, and the check of each: the other end may be anybody who has a key. What passes has
 * the stated types and bounds; texts are cut, and cannot end a line or control a terminal.
 *
 * A coordinator asks; an agent answers in order, and says besides how its load goes. The log of a load goes in pieces that the
 * coordinator asks for one at a time, so neither end ever holds much of it.
 */
import { inLine } from '../../host/printable.js';
import type { ClockStatus } from '../../clock/quality/statement.js';
import type { HistogramData } from '../../metrics/histogram.js';
import { checkedHistogram } from '../hlog/log-reader.js';
import { NO_COUNTS } from '../load/counts.js';
import type { ClientCounts } from '../load/messages.js';

/** Bytes of a log in one frame. */
export const PIECE_BYTES = 1 << 16;
/** Longest log that is gathered: days of a few tags. */
export const LOG_BYTES_MAX = 1 << 28;
const TEXT_CHARACTERS_MAX = 1_000;
const CLOCK_STATUSES: readonly ClockStatus[] = ['synchronized', 'stepped', 'free-running', 'lost', 'unknown'];
const WALL_MS_MAX = 2 ** 43;
const REPLICAS_MAX = 1_000;

/** Coordinator → agent. */
export type ToAgent =
  /** The first message. `by` names the coordinator to people. */
  | { readonly type: 'claim'; readonly by: string; readonly version: string }
  | { readonly type: 'time' }
  | { readonly type: 'prepare'; readonly order: unknown }
  /** ms since the epoch, by the agent's own wall clock. */
  | { readonly type: 'start'; readonly atMs: number }
  /** Ends the load in order; its result counts. */
  | { readonly type: 'stop' }
  | { readonly type: 'piece'; readonly at: number };

/** What an agent's host says of its wall clock, as `jitpaxos clock list` shows it. */
export interface StatedClock {
  readonly status: ClockStatus;
  /** Largest error against true time, ns; null: unknown. */
  readonly errorNs: number | null;
  readonly found: string;
}

/** What an agent says of itself. */
export interface AgentFacts {
  readonly version: string;
  readonly host: string;
  readonly cores: number;
  readonly replicas: number;
  readonly transport: string;
  /** Most client processes that it starts. */
  readonly clientsMax: number;
  readonly clock: StatedClock;
}

/** How a load goes: everything since its measurement began. */
export interface AgentProgress {
  /** Since the arrivals began; the warm-up counts. */
  readonly seconds: number;
  readonly warming: boolean;
  readonly counts: ClientCounts;
  readonly histogram: HistogramData;
}

/** How a load ended. */
export interface AgentResult {
  readonly logBytes: number;
  readonly counts: ClientCounts;
  /** Why the command would have failed, although there is a result; null: it would not. */
  readonly failure: string | null;
}

/** Agent → coordinator. */
export type FromAgent =
  | ({ readonly type: 'welcome' } & AgentFacts)
  /** Another coordinator has it. */
  | { readonly type: 'held'; readonly by: string; readonly seconds: number }
  | { readonly type: 'time'; readonly wallMs: number }
  /** The client processes are connected. */
  | { readonly type: 'prepared' }
  | { readonly type: 'starting' }
  /** What was asked for cannot be done, or the load failed without a result. */
  | { readonly type: 'refused'; readonly code: string; readonly message: string }
  | ({ readonly type: 'progress' } & AgentProgress)
  | ({ readonly type: 'done' } & AgentResult);

/** Throws Error with a few words. */
export function readToAgent(value: unknown): ToAgent {
  const read = new Fields(value);
  const type = read.text('type');
  switch (type) {
    case 'claim':
      return { type, by: read.text('by'), version: read.text('version') };
    case 'prepare':
      return { type, order: read.of('order') };
    case 'start':
      return { type, atMs: read.number('atMs', 0, WALL_MS_MAX) };
    case 'piece':
      return { type, at: read.number('at', 0, LOG_BYTES_MAX) };
    case 'time':
    case 'stop':
      return { type };
    default:
      throw new Error('it sent a message of an unknown type');
  }
}

/** Throws Error with a few words. */
export function readFromAgent(value: unknown): FromAgent {
  const read = new Fields(value);
  const type = read.text('type');
  switch (type) {
    case 'welcome':
      return {
        type,
        version: read.text('version'),
        host: read.text('host'),
        cores: read.number('cores', 0, 1e6),
        replicas: read.number('replicas', 1, REPLICAS_MAX),
        transport: read.text('transport'),
        clientsMax: read.number('clientsMax', 1, 1e6),
        clock: clockOf(read.of('clock')),
      };
    case 'held':
      return { type, by: read.text('by'), seconds: read.number('seconds', 0, 1e9) };
    case 'time':
      return { type, wallMs: read.number('wallMs', 0, WALL_MS_MAX) };
    case 'refused':
      return { type, code: read.text('code'), message: read.text('message') };
    case 'progress':
      return {
        type,
        seconds: read.number('seconds', 0, 1e9),
        warming: read.of('warming') === true,
        counts: countsOf(read.of('counts')),
        histogram: histogramOf(read.of('histogram')),
      };
    case 'done':
      return {
        type,
        logBytes: read.number('logBytes', 0, LOG_BYTES_MAX),
        counts: countsOf(read.of('counts')),
        failure: read.of('failure') === null ? null : read.text('failure'),
      };
    case 'prepared':
    case 'starting':
      return { type };
    default:
      throw new Error('it sent a message of an unknown type');
  }
}

function clockOf(value: unknown): StatedClock {
  const read = new Fields(value);
  const status = CLOCK_STATUSES.find((each) => each === read.of('status'));
  if (status === undefined) throw new Error('it sent a status of its clock that there is not');
  return {
    status,
    errorNs: read.of('errorNs') === null ? null : read.number('errorNs', 0, Number.MAX_SAFE_INTEGER),
    found: read.text('found'),
  };
}

function countsOf(value: unknown): ClientCounts {
  const read = new Fields(value);
  return Object.fromEntries(
    Object.keys(NO_COUNTS).map((name) => [name, read.number(name, 0, Number.MAX_SAFE_INTEGER)]),
  ) as unknown as ClientCounts;
}

function histogramOf(value: unknown): HistogramData {
  const read = new Fields(value);
  const data = {
    count: read.of('count'),
    sum: read.of('sum'),
    min: read.of('min'),
    max: read.of('max'),
    buckets: read.of('buckets'),
  } as HistogramData;
  return checkedHistogram(data, 'its count').toData();
}

/** The fields of an object that came from elsewhere. */
class Fields {
  private readonly fields: Readonly<Record<string, unknown>>;

  constructor(value: unknown) {
    if (typeof value !== 'object' || value === null || Array.isArray(value))
      throw new Error('it sent something that is not an object');
    this.fields = value as Record<string, unknown>;
  }

  of(name: string): unknown {
    return Object.hasOwn(this.fields, name) ? this.fields[name] : undefined;
  }

  text(name: string): string {
    const value = this.of(name);
    if (typeof value !== 'string') throw new Error(`it sent no text as ${name}`);
    return inLine(value.slice(0, TEXT_CHARACTERS_MAX));
  }

  number(name: string, min: number, max: number): number {
    const value = this.of(name);
    if (typeof value !== 'number' || !(value >= min && value <= max))
      throw new Error(`it sent no number from ${min} to ${max} as ${name}`);
    return value;
  }
}
