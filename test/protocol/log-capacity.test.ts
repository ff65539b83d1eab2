// Where snapshots are taken: at indexes that all replicas choose alike, also where the log fills faster than they are ready.
import t from 'tap';
import { encodePut, KV_OPERATION_BYTES_MAX } from '../../src/machine/kv-codec.js';
import { KvMachine } from '../../src/machine/kv.js';
import { loadHash } from '../../src/native/hash64.js';
import { DEFAULT_LIMITS } from '../../src/protocol/config.js';
import { COUNTER_NAMES } from '../../src/protocol/counters.js';
import { Execution } from '../../src/protocol/log/execution.js';
import { Log } from '../../src/protocol/log/log.js';
import { REGISTER_BYTES, REGISTER_LANE } from '../../src/protocol/log/sessions.js';
import { TailIndex } from '../../src/protocol/log/tail-index.js';
import { firstMembership } from '../../src/protocol/membership/membership.js';
import { LAST_FILL, LogCapacity } from '../../src/protocol/replica/log-capacity.js';
import { RequestFlag } from '../../src/wire/messages.js';
import { writeU16 } from '../../src/wire/u64.js';
import { entryOf } from './entries.js';

const hasher = loadHash();
const LIMITS = { ...DEFAULT_LIMITS, logEntries: 1 << 10, logBytes: 1 << 20, operationBytes: KV_OPERATION_BYTES_MAX };

/** A snapshot that was begun. */
interface Begun {
  readonly index: number;
  readonly pitch: number;
  /** How full the log was. */
  readonly fill: number;
}

/**
 * Fills the log with `entries`, each committed at once. The snapshot that is in progress becomes whole when the log is as
 * full as that, and not before.
 */
function fillLog(entries: number, doneAtFill: number, first: number): Begun[] {
  const log = new Log(LIMITS.logEntries, LIMITS.logBytes, LIMITS.operationBytes, hasher);
  const tail = new TailIndex(log);
  const counters = new Float64Array(COUNTER_NAMES.length);
  const members = firstMembership(3);
  const execution = new Execution(log, tail, new KvMachine(), LIMITS, counters, hasher, 0, members, 64, hasher);
  const begun: Begun[] = [];
  let pitch = 1;
  const setPitch = execution.setPitch.bind(execution);
  execution.setPitch = (every) => setPitch((pitch = every));
  const capacity = new LogCapacity(log, execution, LIMITS, false);
  const operation = new Uint8Array(KV_OPERATION_BYTES_MAX);
  for (let index = 1; index <= entries; index++) {
    let operationLength: number;
    if (index === 1) {
      operationLength = REGISTER_BYTES;
      operation.fill(0, 0, REGISTER_BYTES);
      writeU16(operation, 8, 1);
      operation[REGISTER_BYTES - 1] = 1; // born at the time of its entry
    } else operationLength = encodePut(operation, 0, Uint8Array.of(index & 31), new Uint8Array(10 + first).fill(index));
    const isAppended = log.append(
      entryOf({
        timestampLo: index,
        sessionLo: 2,
        lane: index === 1 ? REGISTER_LANE : 0,
        request: index,
        flags: index === 1 ? RequestFlag.register : 0,
        operationBytes: operation,
        operationLength,
      }),
    );
    if (!isAppended) throw new Error(`entry ${index} has no room`);
    tail.add(index);
    const before = execution.newestSnapshot;
    execution.commits(index);
    execution.executeTo(index);
    execution.committedTo(index);
    const bound = capacity.bound(index, Infinity);
    if (bound > log.baseIndex) log.cut(bound);
    if (execution.newestSnapshot !== before) begun.push({ index: execution.newestSnapshot, pitch, fill: log.fill() });
    if (execution.unfinished !== undefined && log.fill() >= doneAtFill) {
      execution.finishSnapshot();
      const cut = capacity.bound(index, Infinity);
      if (cut > log.baseIndex) log.cut(cut);
      if (execution.newestSnapshot !== begun[begun.length - 1]?.index)
        begun.push({ index: execution.newestSnapshot, pitch, fill: log.fill() });
    }
  }
  return begun;
}

t.test('with time for a snapshot it is taken at a multiple of the pitch', (t) => {
  const begun = fillLog(10_000, 0, 3);
  t.ok(begun.length > 50, `${begun.length} snapshots`);
  t.same(
    begun.filter(({ index, pitch }) => index % pitch !== 0),
    [],
  );
  t.end();
});

t.test('where the log stays full behind a cut, the next one is at a multiple of an eighth of the pitch', (t) => {
  let hasty = 0;
  for (const doneAtFill of [0.8, 0.82, 0.84, 0.86, 0.88])
    for (const first of [1, 4, 9]) {
      const begun = fillLog(6000, doneAtFill, first);
      const early = begun.filter(({ index, pitch }) => index % pitch !== 0);
      hasty += early.length;
      t.same(
        early.filter(({ index, pitch, fill }) => index % Math.max(1, pitch / 8) !== 0 && fill < LAST_FILL),
        [],
        `whole at ${doneAtFill}: ${begun.length} snapshots, ${early.length} before their time`,
      );
    }
  t.ok(hasty > 20, `${hasty} snapshots were taken before their time`);
  t.end();
});
