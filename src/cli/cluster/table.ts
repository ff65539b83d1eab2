/** A cluster's summary as lines, the same for `status` and `top`. */
import { viewText } from '../../host/membership-report.js';
import type { ReplicaStatusReport } from '../../host/status.js';
import { Colour, paint, table } from '../../console/terminal.js';
import { formatCount, formatDuration, formatRate } from '../../console/units.js';
import { keyLines } from './keys-loaded.js';
import { epochText } from './members-seen.js';
import { storeLine } from './store-figures.js';
import type { ClusterSummary, Encrypted, ReplicaSummary } from './summary.js';

const HEADER = [
  'replica',
  'address',
  'role',
  'status',
  'view',
  'last',
  'committed',
  'lag',
  'commits/s',
  'cpu',
  'clock',
  'answers in',
  'up',
];
/** Columns of numbers. */
const RIGHT = new Set([4, 5, 6, 7, 8, 9, 11, 12]);
const NONE = '–';

const ENCRYPTED_TEXT: Readonly<Record<Encrypted, string>> = {
  yes: 'encrypted',
  no: 'not encrypted',
  partly: 'partly encrypted',
  unknown: 'encryption unknown',
};

/** Headline, one row for each replica, leases and watches, rejects, remarks. */
export function summaryLines(summary: ClusterSummary, colours: boolean): string[] {
  const tone = (colour: Colour, text: string): string => paint(colours, colour, text);
  const rows = summary.replicas.map((replica) => rowOf(replica, tone));
  const keys = keyLines(summary.replicas.flatMap(({ report }) => (report === undefined ? [] : [report])));
  const store = storeLine(summary.leases, summary.watches);
  const rejected = Object.entries(summary.rejectedPerSecond).filter(([, rate]) => rate > 0);
  return [
    headline(summary, tone),
    '',
    ...table([HEADER.map((title) => tone(Colour.dim, title)), ...rows], RIGHT),
    ...(keys.length === 0 ? [] : ['', ...keys]),
    ...(store === '' ? [] : ['', store]),
    ...(rejected.length === 0
      ? []
      : ['', `rejected a second: ${rejected.map(([reason, rate]) => `${reason} ${formatRate(rate)}`).join(', ')}`]),
    ...(summary.remarks.length === 0
      ? []
      : ['', ...summary.remarks.map((remark) => `${tone(Colour.yellow, '!')} ${remark}`)]),
  ];
}

type Tone = (colour: Colour, text: string) => string;

function headline(summary: ClusterSummary, tone: Tone): string {
  const {
    cluster,
    view,
    primary,
    members,
    membership,
    answered,
    replicas,
    available,
    majorityLost,
    commitsPerSecond,
    wireVersion,
    encrypted,
  } = summary;
  // A removed host that still answers counts for nothing; a member that cannot be asked counts as silent.
  const listed = replicas.filter(({ role }) => role !== 'removed');
  const heard = listed.filter(({ report }) => report !== undefined).length;
  const parts = [`cluster ${cluster}`];
  const epoch = epochText(membership);
  if (epoch !== undefined) parts.push(epoch);
  if (view !== undefined) parts.push(`view ${viewText(view)}`, `primary ${primary}`, `quorum ${members.join(',')}`);
  parts.push(
    available
      ? tone(Colour.green, 'available')
      : answered === 0
        ? tone(Colour.yellow, 'unknown')
        : tone(Colour.red, majorityLost === undefined ? 'not available' : 'majority-lost: not available'),
    `${heard} of ${listed.length} replicas answer`,
  );
  if (wireVersion !== undefined) parts.push(`wire ${wireVersion}`, ENCRYPTED_TEXT[encrypted]);
  if (commitsPerSecond !== undefined) parts.push(`${formatRate(commitsPerSecond)} commits/s`);
  return parts.join('   ');
}

function rowOf(replica: ReplicaSummary, tone: Tone): string[] {
  const { id, address, asked, role, change, report, lag, rates, roundTripUs } = replica;
  const does = `${role ?? ''}${change === undefined ? '' : `${role === undefined ? '' : ', '}${change}`}`;
  if (report === undefined)
    return [
      asked && role !== 'removed' ? tone(Colour.red, `✗ ${id}`) : tone(Colour.dim, `? ${id}`),
      address,
      tone(
        asked && role !== 'removed' ? Colour.red : Colour.dim,
        `${asked ? 'no answer' : 'not asked'}${does === '' ? '' : ` (${does})`}`,
      ),
      ...new Array<string>(HEADER.length - 3).fill(NONE),
    ];
  const normal = report.status === 'normal';
  return [
    `${tone(normal ? Colour.green : Colour.yellow, '●')} ${id}`,
    address,
    role === 'primary' ? tone(Colour.bold, does) : does === '' ? NONE : does,
    normal ? report.status : tone(Colour.yellow, report.status),
    viewText(report.view),
    formatCount(report.lastIndex),
    formatCount(report.committedIndex),
    lag === undefined ? NONE : formatCount(lag),
    rates === undefined ? NONE : formatRate(rates.commits),
    rates === undefined ? NONE : `${Math.round(rates.cpu * 100)} %`,
    report.clock.healthy === false ? tone(Colour.yellow, clockOf(report.clock)) : clockOf(report.clock),
    roundTripUs === undefined ? NONE : formatDuration(roundTripUs * 1e3),
    formatUptime(report.uptimeSeconds),
  ];
}

function clockOf({ source, errorBoundNs }: ReplicaStatusReport['clock']): string {
  return typeof errorBoundNs === 'number' ? `${source} ±${formatDuration(errorBoundNs)}` : `${source} ±?`;
}

function formatUptime(seconds: number): string {
  if (seconds < 60) return `${Math.floor(seconds)}s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)}m${String(Math.floor(seconds % 60)).padStart(2, '0')}s`;
  if (seconds < 86_400)
    return `${Math.floor(seconds / 3600)}h${String(Math.floor((seconds / 60) % 60)).padStart(2, '0')}m`;
  return `${Math.floor(seconds / 86_400)}d${String(Math.floor((seconds / 3600) % 24)).padStart(2, '0')}h`;
}
