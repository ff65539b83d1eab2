/**
 * Bytes allocated per operation by client, primary and member, over real sockets in a steady state: heap growth plus
 * what collections freed meanwhile (metrics/heap-meter.ts), minus what the same processes allocate in the same time
 * while idle, for timers and heartbeats.
 */
import { OurCluster } from '../../src/measure/compare/cluster.js';
import { Views } from '../../src/protocol/views.js';
import { formatCount } from '../../src/console/units.js';
import type { HeapUse } from '../../src/metrics/heap-meter.js';
import { judged, type RowGroup } from './row.js';

/** An object takes about 16 bytes: up to this value, fewer than one operation in thirty makes one. */
const ZERO_UP_TO = 0.5;
const LONGEST_MS = 120_000;
const IDLE_MS = 2_000;

export const allocationRow: RowGroup = {
  names: ['allocation'],
  async measure({ timing, operations, progress }) {
    const ours = new OurCluster('allocation', { transport: 'native', idle: 'block' });
    const { client, replicas, view, measured, idle } = await ours.runMetered(
      { replicas: 3, clients: 1, open: 512, bytes: 64, operation: 'write', machine: 'echo' },
      { warmupMs: timing.warmupMs * 2, ms: LONGEST_MS },
      operations,
      Math.min(IDLE_MS, timing.ms * 4),
    );
    const views = new Views(replicas.length);
    const perOp = (use: HeapUse | null, rest: number): number =>
      use === null ? NaN : Math.max(0, use.allocatedBytes - rest * measured.seconds) / measured.operations;
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
    progress(`allocation: ${formatCount(measured.operations)} operations in ${measured.seconds.toFixed(1)} s`);
    return [
      judged({
        name: 'allocation',
        what: 'heap bytes allocated an operation by client, primary, member (slot interface, native block, 512 open)',
        goal: '0',
        measured: Object.values(bytes)
          .map((value) => value.toFixed(2))
          .join(', '),
        figures: Object.values(bytes).map((value) => ({ value, atMost: ZERO_UP_TO })),
        values: {
          operations: measured.operations,
          seconds: measured.seconds,
          bytesPerOperation: bytes,
          collections,
          idleBytesPerSecond: idle,
        },
        note: `over ${formatCount(measured.operations)} operations, ${collections.client}, ${collections.primary}, ${collections.member} collections in ${measured.seconds.toFixed(0)} s; what the replicas allocate when idle is subtracted; 0 means at most ${ZERO_UP_TO}, as an object takes 16`,
      }),
    ];
  },
};
