// The memory of a snapshot that is over is used for the next one, and never while somebody reads it.
import t, { type Test } from 'tap';
import type { Snapshot } from '../../src/protocol/contract.js';
import { DEFAULT_LIMITS } from '../../src/protocol/config.js';
import { COUNTER_NAMES } from '../../src/protocol/counters.js';
import { Execution } from '../../src/protocol/log/execution.js';
import { Log } from '../../src/protocol/log/log.js';
import { SnapshotMemory } from '../../src/protocol/log/snapshot-memory.js';
import { REGISTER_BORN, REGISTER_BYTES, REGISTER_LANE } from '../../src/protocol/log/sessions.js';
import { TailIndex } from '../../src/protocol/log/tail-index.js';
import { firstMembership } from '../../src/protocol/membership/membership.js';
import { loadHash } from '../../src/native/hash64.js';
import { REGISTER_LANES, RequestFlag } from '../../src/wire/messages.js';
import { writeI32, writeU16 } from '../../src/wire/u64.js';
import { entryOf } from './entries.js';

t.test('memory that is given back is taken again, by a snapshot of about its length', (t) => {
  const memory = new SnapshotMemory(100);
  const first = memory.take(1000);
  t.equal(first.length, 1000);
  t.not(memory.take(1000).buffer, first.buffer);
  memory.giveBack(first);
  const second = memory.take(1100);
  t.equal(second.buffer, first.buffer, 'a state may have grown a little');
  t.equal(second.length, 1100);
  memory.giveBack(second);
  const large = memory.take(1200);
  t.not(large.buffer, first.buffer, 'it is too small');
  memory.giveBack(large);
  t.not(memory.take(600).buffer, large.buffer, 'it is much too large');
  t.end();
});

t.test('what was given back twice, kept, or taken elsewhere is not taken again', (t) => {
  const memory = new SnapshotMemory(100);
  const first = memory.take(1000);
  memory.giveBack(first);
  const second = memory.take(1000);
  memory.keep(second);
  memory.giveBack(second);
  t.not(memory.take(1000).buffer, second.buffer, 'it was kept');
  const strange = new Uint8Array(1100);
  memory.giveBack(strange);
  t.not(memory.take(1000).buffer, strange.buffer);
  const third = memory.take(1000);
  memory.giveBack(third);
  memory.giveBack(third);
  memory.take(1000);
  t.not(memory.take(1000).buffer, third.buffer, 'two do not share it');
  const short = memory.take(100);
  memory.giveBack(short);
  t.not(memory.take(100).buffer, short.buffer, 'a short one is not worth it');
  t.end();
});

t.test('once snapshots are short, no long memory is left', (t) => {
  const memory = new SnapshotMemory(100);
  const long = memory.take(1000);
  memory.giveBack(long);
  memory.giveBack(memory.take(50));
  t.not(memory.take(1000).buffer, long.buffer);
  t.end();
});

const STATE_BYTES = 500;

/** Its state is one byte, repeated. */
class Byte {
  value = 0;
  restored: Uint8Array | undefined;
  apply = (): void => void this.value++;
  query = (): void => undefined;
  snapshot = (): Uint8Array => new Uint8Array(STATE_BYTES).fill(this.value);
  restore = (bytes: Uint8Array): void => {
    this.restored = bytes;
    this.value = bytes[0]!;
  };
}

function scene(isHeld: ((snapshot: Snapshot) => boolean) | 'nothing' = () => false) {
  const hasher = loadHash();
  const limits = { ...DEFAULT_LIMITS, logEntries: 1 << 8, logBytes: 1 << 18 };
  const log = new Log(limits.logEntries, limits.logBytes, limits.operationBytes, hasher);
  const machine = new Byte();
  const counters = new Float64Array(COUNTER_NAMES.length);
  const execution = new Execution(
    log,
    new TailIndex(log),
    machine,
    limits,
    counters,
    hasher,
    0,
    firstMembership(3),
    64,
    hasher,
  );
  // What is given back is used again with any bytes in it.
  const memory = execution['memory'];
  const giveBack = memory.giveBack.bind(memory);
  memory.giveBack = (bytes) => {
    if (memory['taken'].has(bytes.buffer)) new Uint8Array(bytes.buffer).fill(0xab);
    giveBack(bytes);
  };
  if (isHeld !== 'nothing') execution.isHeld = isHeld;
  const append = (registers = false): number => {
    const index = log.lastIndex + 1;
    const operationBytes = new Uint8Array(REGISTER_BYTES);
    if (registers) {
      writeU16(operationBytes, REGISTER_LANES, 5);
      writeI32(operationBytes, REGISTER_BORN + 4, index);
    }
    const appended = log.append(
      entryOf({
        timestampLo: index,
        sessionLo: 1,
        lane: registers ? REGISTER_LANE : 0,
        request: index,
        flags: registers ? RequestFlag.register : 0,
        operationBytes,
        operationLength: REGISTER_BYTES,
      }),
    );
    if (!appended) throw new Error('there is room');
    execution.executeTo(index);
    return index;
  };
  const commit = (): void => {
    execution.commits(execution.executed);
    execution.committedTo(execution.executed);
  };
  append(true);
  commit();
  /** One entry more, and a snapshot of it in pieces; it has the bytes that one taken at once has. */
  const take = (t: Test, commits = true): Snapshot => {
    append();
    if (commits) commit();
    const expected = execution['encodeWhole']();
    execution.beginSnapshot();
    execution.finishSnapshot();
    const taken = execution.provisional ?? execution.stable;
    t.equal(taken.index, execution.executed);
    t.ok(Buffer.from(taken.bytes).equals(Buffer.from(expected.bytes)), `the bytes at ${taken.index}`);
    return taken;
  };
  return { execution, machine, log, append, commit, take };
}

t.test('the third snapshot takes the place of the first one; its bytes are those of one taken at once', (t) => {
  const { take } = scene();
  const [first, second, third, fourth] = [take(t), take(t), take(t), take(t)];
  t.not(second!.bytes.buffer, first!.bytes.buffer, 'the first one was the stable one until the second was whole');
  t.equal(third!.bytes.buffer, first!.bytes.buffer);
  t.equal(fourth!.bytes.buffer, second!.bytes.buffer);
  t.end();
});

t.test('one that somebody fetches stays as it is', (t) => {
  const { execution, take } = scene();
  const first = take(t);
  const before = first.bytes.slice();
  execution.isHeld = (snapshot) => snapshot === first;
  for (let i = 0; i < 4; i++) t.not(take(t).bytes.buffer, first.bytes.buffer);
  t.same(first.bytes, before);
  t.end();
});

t.test('while nobody has said that it is not held, none is used again', (t) => {
  const { take } = scene('nothing');
  const buffers = [take(t), take(t), take(t), take(t)].map(({ bytes }) => bytes.buffer);
  t.equal(new Set(buffers).size, 4);
  t.end();
});

t.test('one that is given up, or never became stable, leaves its memory to the next one', (t) => {
  const { execution, log, append, take } = scene();
  take(t);
  append();
  execution.beginSnapshot();
  const { buffer } = execution.unfinished.snapshot.bytes;
  execution.continueSnapshot(64);
  append();
  execution.takeSnapshot(execution.committed);
  t.notOk(execution.unfinished.isUnderway);
  const provisional = take(t, false);
  t.equal(provisional.bytes.buffer, buffer, 'of the one that was given up');
  t.equal(execution.provisional, provisional);
  log.truncate(execution.committed);
  execution.truncated(execution.committed, execution.committed);
  t.equal(execution.provisional, undefined);
  t.equal(take(t).bytes.buffer, buffer, 'of the one that was provisional');
  t.end();
});

t.test('a machine may go on reading what it was restored from', (t) => {
  const { execution, machine, append, take } = scene();
  const stable = take(t);
  append();
  execution.rewind(stable.index);
  t.equal(machine.restored?.buffer, stable.bytes.buffer);
  const before = machine.restored!.slice();
  for (let i = 0; i < 4; i++) t.not(take(t).bytes.buffer, stable.bytes.buffer);
  t.same(machine.restored, before);
  t.end();
});
