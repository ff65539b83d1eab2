/**
 * Bytes allocated per operation by client, primary and member, over real sockets in a steady state: heap growth plus
 * what collections freed meanwhile (metrics/heap-meter.ts), minus what the same processes allocate in the same time
 * while idle, for timers and heartbeats. Once without keys, once with keys, where every datagram is encrypted.
 */
import { OurCluster } from '../../src/measure/compare/cluster.js';
import { Views } from '../../src/protocol/views.js';
import { formatCount } from '../../src/console/units.js';
import type { HeapUse } from '../../src/metrics/heap-meter.js';
import { judged, type Effort, type RowGroup, type RowResult } from './row.js';

/** An object takes about 16 bytes: up to this value, fewer than one operation in thirty makes one. */
const ZERO_UP_TO = 0.5;
const LONGEST_MS = 120_000;
const IDLE_MS = 2_000;

export const allocationRows: readonly RowGroup[] = [
  rowOf('allocation', 'without keys', false),
  rowOf('allocation-encrypted', 'with keys, encrypted', true),
];

function rowOf(name: string, which: string, authenticated: boolean): RowGroup {
  return {
    names: [name],
    measure: async (effort) => [await measured(name, which, authenticated, effort)],
  };
}

async function measured(
  name: string,
  which: string,
  authenticated: boolean,
  { timing, operations, progress }: Effort,
): Promise<RowResult> {
  const ours = new OurCluster(name, { transport: 'native', idle: 'block' }, { authenticated });
  const {
    client,
    replicas,
    view,
    measured: run,
    idle,
  } = await ours.runMetered(
    { replicas: 3, clients: 1, open: 512, bytes: 64, operation: 'write', machine: 'echo' },
    { warmupMs: timing.warmupMs * 2, ms: LONGEST_MS },
    operations,
    Math.min(IDLE_MS, timing.ms * 4),
  );
  const views = new Views(replicas.length);
  const perOp = (use: HeapUse | null, rest: number): number =>
    use === null ? NaN : Math.max(0, use.allocatedBytes - rest * run.seconds) / run.operations;
  const primary = views.primary(view);
  const member = views.members(view).find((id) => id !== primary)!;
  const bytes = {
    client: perOp(client, 0),
    primary: perOp(replicas[primary]!, idle[primary]!),
    member: perOp(replicas[member]!, idle[member]!),
  };
  const collections = {
    client: client?.collections ?? null,
    primary: replicas[primary]?.collections ?? null,
    member: replicas[member]?.collections ?? null,
  };
  progress(`${name}: ${formatCount(run.operations)} operations in ${run.seconds.toFixed(1)} s`);
  return judged({
    name,
    what: `heap bytes allocated an operation by client, primary, member (${which}; slot interface, native block, 512 open)`,
    goal: '0',
    measured: Object.values(bytes)
      .map((value) => value.toFixed(2))
      .join(', '),
    figures: Object.values(bytes).map((value) => ({ value, atMost: ZERO_UP_TO })),
    values: {
      operations: run.operations,
      seconds: run.seconds,
      bytesPerOperation: bytes,
      collections,
      idleBytesPerSecond: idle,
    },
    note: `over ${formatCount(run.operations)} operations, ${collections.client}, ${collections.primary}, ${collections.member} collections in ${run.seconds.toFixed(0)} s; what the replicas allocate when idle is subtracted; 0 means at most ${ZERO_UP_TO}, as an object takes 16`,
  });
}
