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

/** A log, and what executes it and cuts it. */
class Replica {
  readonly log = new Log(LIMITS.logEntries, LIMITS.logBytes, LIMITS.operationBytes, hasher);
  readonly execution: Execution;
  readonly capacity: LogCapacity;
  pitch = 1;
  private readonly tail = new TailIndex(this.log);
  private readonly operation = new Uint8Array(KV_OPERATION_BYTES_MAX);

  /** @param keys that are written in turn, at most 256 */
  constructor(
    keepsLog = false,
    private readonly keys = 32,
  ) {
    const counters = new Float64Array(COUNTER_NAMES.length);
    const members = firstMembership(3);
    const { log, tail } = this;
    const execution = new Execution(log, tail, new KvMachine(), LIMITS, counters, hasher, 0, members, 64, hasher);
    const setPitch = execution.setPitch.bind(execution);
    execution.setPitch = (every) => setPitch((this.pitch = every));
    this.execution = execution;
    this.capacity = new LogCapacity(log, execution, LIMITS, keepsLog);
  }

  append(valueLength: number): number {
    const { log, operation } = this;
    const index = log.lastIndex + 1;
    let operationLength: number;
    if (index === 1) {
      operationLength = REGISTER_BYTES;
      operation.fill(0, 0, REGISTER_BYTES);
      writeU16(operation, 8, 1);
      operation[REGISTER_BYTES - 1] = 1; // born at the time of its entry
    } else
      operationLength = encodePut(
        operation,
        0,
        Uint8Array.of(index % this.keys),
        new Uint8Array(valueLength).fill(index),
      );
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
    this.tail.add(index);
    return index;
  }

  /** Everything up to there is committed. */
  execute(index: number): void {
    this.execution.commits(index);
    this.execution.executeTo(index);
    this.execution.committedTo(index);
  }

  /** What is not executed leaves the log, as where another view takes its place. */
  truncate(): void {
    this.log.truncate(this.execution.executed);
    this.tail.clear();
  }

  /** Ends a turn. */
  cut(committed: number): void {
    const bound = this.capacity.bound(committed, Infinity, Infinity);
    if (bound > this.log.baseIndex) this.log.cut(bound);
  }
}

/**
 * Fills the log with `entries`, each committed at once. The snapshot that is in progress becomes whole when the log is as
 * full as that, and not before.
 */
function fillLog(entries: number, doneAtFill: number, first: number): Begun[] {
  const replica = new Replica();
  const { log, execution } = replica;
  const begun: Begun[] = [];
  for (let index = 1; index <= entries; index++) {
    const before = execution.newestSnapshot;
    replica.append(10 + first);
    replica.execute(index);
    replica.cut(index);
    const { pitch } = replica;
    if (execution.newestSnapshot !== before) begun.push({ index: execution.newestSnapshot, pitch, fill: log.fill() });
    if (execution.unfinished.isUnderway && log.fill() >= doneAtFill) {
      execution.finishSnapshot();
      replica.cut(index);
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

t.test('a snapshot is begun only when the log has grown by the size of the state', (t) => {
  const valueLength = 800;
  for (const keepsLog of [false, true])
    for (const keys of [1, 20, 60, 120, 200, 250]) {
      const replica = new Replica(keepsLog, keys);
      const { execution } = replica;
      const begun: number[] = [];
      let state = 0;
      for (let index = 1; index <= 6000; index++) {
        const before = execution.newestSnapshot;
        replica.append(valueLength);
        replica.execute(index);
        replica.cut(index);
        execution.finishSnapshot();
        if (execution.newestSnapshot !== before) begun.push(execution.newestSnapshot);
        state = Math.max(state, execution.stable.bytes.length);
      }
      const what = `${keys} keys, log ${keepsLog ? 'on disk' : 'in memory'}`;
      t.ok(state >= keys * valueLength && begun.length >= 6, `${what}: ${begun.length} snapshots of ${state} bytes`);
      // The first ones are of a state that is not yet as large.
      const entries = begun.slice(4).map((index, i) => index - begun[i + 3]!);
      t.ok(
        entries.every((count) => count * valueLength >= state),
        `${what}: at least ${Math.min(...entries) * valueLength} bytes of log between two of them`,
      );
    }
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

t.test('a snapshot that was to come sooner takes its time again once the log is shorter', (t) => {
  const behind = 200;
  const replica = new Replica();
  const { log, execution } = replica;
  const hasten = execution.hasten.bind(execution);
  let hastened = 0;
  execution.hasten = (entries) => {
    hastened = entries;
    hasten(entries);
  };
  const next = (last: number): void => {
    if (last > behind) replica.execute(last - behind);
    replica.cut(execution.executed);
  };
  // Each snapshot becomes whole only when the log is nearly full.
  while (hastened === 0 || execution.executed % hastened === 0) {
    next(replica.append(13));
    if (log.fill() < 0.88 || !execution.unfinished.isUnderway) continue;
    execution.finishSnapshot();
    replica.cut(execution.executed);
  }
  const { pitch } = replica;
  t.equal(hastened, pitch / 8);
  const first = execution.newestSnapshot;
  replica.truncate();
  t.ok(log.fill() < 0.75, `the log is ${log.fill()} full now`);
  hastened = 0;
  const taken: number[] = [];
  while (taken.length < 2) {
    const last = replica.append(13);
    replica.execute(last);
    replica.cut(last);
    execution.finishSnapshot();
    const newest = execution.newestSnapshot;
    if (newest !== first && taken[taken.length - 1] !== newest) taken.push(newest);
  }
  t.equal(hastened, 0);
  t.same(
    taken.filter((index) => index % pitch !== 0),
    [],
    `snapshots of the entries ${taken}, at multiples of ${pitch}`,
  );
  t.end();
});

t.test('taking its time changes nothing for a snapshot that nothing hastened', (t) => {
  const replica = new Replica();
  const { execution } = replica;
  /** Of the next snapshot, if this happens soon after the last one. */
  const snapshotAfter = (change: () => void): number => {
    const before = execution.newestSnapshot;
    for (let i = 0; i < 3; i++) replica.execute(replica.append(13));
    change();
    while (execution.newestSnapshot === before) {
      replica.execute(replica.append(13));
      execution.takeDueSnapshot();
    }
    execution.finishSnapshot();
    return execution.newestSnapshot;
  };
  execution.setPitch(32);
  t.equal(
    snapshotAfter(() => execution.takeTime()),
    32,
  );
  t.equal(
    snapshotAfter(() => execution.hasten(8)),
    40,
  );
  t.equal(
    snapshotAfter(() => undefined),
    64,
    'the one behind it is at a multiple of the pitch',
  );
  t.equal(
    snapshotAfter(() => {
      execution.hasten(8);
      execution.takeTime();
    }),
    96,
  );
  t.end();
});

t.test('of snapshots that are due among entries executed at once, ahead of the commit, only the last is taken', (t) => {
  const replica = new Replica();
  const { execution, log } = replica;
  execution.setPitch(32);
  for (let i = 0; i < 130; i++) replica.append(13);
  const taken: number[] = [];
  const begin = execution.beginSnapshot.bind(execution);
  execution.beginSnapshot = () => {
    taken.push(execution.executed);
    begin();
    execution.finishSnapshot();
  };
  execution.commits(40);
  execution.executeTo(log.lastIndex);
  t.same(taken, [32, 128], 'entry 32 is committed');
  replica.append(13);
  execution.executeTo(log.lastIndex);
  t.same(taken, [32, 128]);
  t.end();
});
