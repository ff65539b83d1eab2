/**
 * What a primary executed too early is undone: two replicas' executions of the same log, one whose machine undoes and one
 * whose machine restores, stay byte for byte the same. Replay a random failure with SEED=n.
 */
import t from 'tap';
import { encodeDelete, encodePut, KV_OPERATION_BYTES_MAX } from '../../src/machine/kv-codec.js';
import { KvMachine } from '../../src/machine/kv.js';
import type { StateMachine } from '../../src/machine/state-machine.js';
import { loadHash } from '../../src/native/hash64.js';
import { DEFAULT_LIMITS } from '../../src/protocol/config.js';
import { COUNTER_NAMES } from '../../src/protocol/counters.js';
import { Execution } from '../../src/protocol/log/execution.js';
import { featureOperation } from '../../src/protocol/log/features.js';
import { Log } from '../../src/protocol/log/log.js';
import { REGISTER_BYTES, REGISTER_LANE } from '../../src/protocol/log/sessions.js';
import { TailIndex } from '../../src/protocol/log/tail-index.js';
import { firstMembership } from '../../src/protocol/membership/membership.js';
import { encodeOperation } from '../../src/protocol/membership/operations.js';
import { RequestFlag } from '../../src/wire/messages.js';
import { writeI32, writeU16 } from '../../src/wire/u64.js';
import { randomFrom } from '../random.js';
import { entryOf } from './entries.js';

const SEED = Number(process.env['SEED'] ?? Math.floor(Math.random() * 2 ** 31));
t.comment(`SEED=${SEED} replays the random walks`);

const hasher = loadHash();
const LANES = 4;
/** So few that sessions and results are evicted all the time. */
const LIMITS = {
  ...DEFAULT_LIMITS,
  logEntries: 1 << 12,
  logBytes: 1 << 22,
  operationBytes: KV_OPERATION_BYTES_MAX,
  maxSessions: 8,
  maxLanes: 30,
  lanesPerSession: LANES,
  resultBytes: 1024,
  keptResultBytes: 8 * 1024,
};

/** Restores, and gives no snapshot in pieces. */
class Restoring implements StateMachine {
  private readonly machine = new KvMachine();
  apply: StateMachine['apply'] = (...given) => this.machine.apply(...given);
  query: StateMachine['query'] = (...given) => this.machine.query(...given);
  snapshot = (): Uint8Array => this.machine.snapshot();
  restore = (snapshot: Uint8Array): void => this.machine.restore(snapshot);
}

class Rig {
  readonly log = new Log(LIMITS.logEntries, LIMITS.logBytes, LIMITS.operationBytes, hasher);
  readonly tail = new TailIndex(this.log);
  readonly execution: Execution;

  constructor(machine: StateMachine, undoBytes?: number) {
    this.execution = new Execution(
      this.log,
      this.tail,
      machine,
      LIMITS,
      new Float64Array(COUNTER_NAMES.length),
      hasher,
      0,
      firstMembership(3),
      64,
      hasher,
      undoBytes,
    );
  }

  commit(index: number): void {
    this.execution.commits(index);
    this.execution.executeTo(Math.max(index, this.execution.executed));
    this.execution.committedTo(index);
  }

  truncate(index: number, committed: number): void {
    const { executed } = this.execution;
    for (let i = this.log.lastIndex; i > index && i > executed; i--) this.tail.truncated(i, executed);
    this.log.truncate(index);
    this.execution.truncated(index, committed);
  }

  get state(): Buffer {
    const { execution } = this;
    return Buffer.from(execution['encodeWhole']().bytes);
  }
}

const operationBytes = new Uint8Array(KV_OPERATION_BYTES_MAX);

/** Appends the next entry to each log: a registration, a key's change, a query, a feature, a host that moves. */
function append(rigs: readonly Rig[], random: (n: number) => number, index: number): void {
  const kind = random(1000);
  let flags = 0;
  let lane = random(LANES);
  let operation: Uint8Array;
  if (kind < 150) {
    flags = RequestFlag.register;
    lane = REGISTER_LANE;
    operation = new Uint8Array(REGISTER_BYTES);
    writeI32(operation, 0, 1 + random(3));
    writeU16(operation, 8, 1 + random(LANES));
    writeI32(operation, 14, index);
  } else if (kind < 153) {
    flags = RequestFlag.feature;
    operation = featureOperation(1 + random(2), hasher);
  } else if (kind < 200) {
    flags = RequestFlag.configure;
    operation = encodeOperation({ kind: 'move', id: random(3), address: `10.0.0.1:${1000 + random(5000)}` });
  } else {
    const key = Uint8Array.of(107, random(50));
    flags = kind < 250 ? RequestFlag.query : 0;
    const length =
      kind < 500
        ? encodeDelete(operationBytes, 0, key)
        : encodePut(operationBytes, 0, key, new Uint8Array(random(100)).fill(index));
    operation = operationBytes.slice(0, length);
  }
  const entry = entryOf({
    timestampLo: index,
    sessionLo: 2 + random(14),
    lane,
    // Some are requests that were executed before.
    request: random(20) === 0 ? 1 : index,
    flags,
    operationBytes: operation,
    operationLength: operation.length,
  });
  for (const { log, tail } of rigs) {
    if (!log.append(entry)) throw new Error('the log is cut in time');
    tail.add(log.lastIndex);
  }
}

interface Seen {
  undone: number;
  restored: number;
  /** Snapshots in pieces that went on, and that were finished after it; those that were given up. */
  wentOn: number;
  finished: number;
  gaveUp: number;
  features: number;
  hosts: number;
}

function walk(seed: number, undoBytes: number, seen: Seen): void {
  const random = randomFrom(seed);
  const undoing = new Rig(new KvMachine(), undoBytes);
  const restoring = new Rig(new Restoring());
  const rigs = [undoing, restoring];
  /** What a snapshot of that entry, with that chain, is. */
  const expected = new Map<string, Buffer>();
  const nameOf = ({ index, chainHi, chainLo }: { index: number; chainHi: number; chainLo: number }): string =>
    `${index} ${chainHi} ${chainLo}`;
  let committed = 0;
  let timestamp = 0;
  let isPrimary = true;
  const compare = (what: string): void => {
    const [a, b] = [undoing, restoring];
    if (a.execution.executed !== b.execution.executed || !a.state.equals(b.state))
      throw new Error(`seed ${seed}: ${what} leaves another state than restore and replay`);
    if (a.execution.features !== b.execution.features) throw new Error(`seed ${seed}: ${what}: other features`);
    if (a.execution.membership.index !== b.execution.membership.index)
      throw new Error(`seed ${seed}: ${what}: other members`);
    if (a.tail.size !== b.tail.size) throw new Error(`seed ${seed}: ${what}: another tail`);
  };
  const goBack = (what: string, call: (rig: Rig) => void): void => {
    const { undone, features, membership } = undoing.execution;
    const { index: unfinished } = undoing.execution.unfinished;
    const before = undoing.execution.executed;
    rigs.forEach(call);
    compare(what);
    if (undoing.execution.executed === before) return;
    if (features !== undoing.execution.features) seen.features++;
    if (membership !== undoing.execution.membership) seen.hosts++;
    if (undoing.execution.undone === undone) seen.restored++;
    else {
      seen.undone++;
      if (unfinished >= 0)
        if (undoing.execution.unfinished.index === unfinished) seen.wentOn++;
        else seen.gaveUp++;
    }
  };
  for (let step = 0; step < 4000; step++) {
    const kind = random(100);
    const last = undoing.log.lastIndex;
    if (kind < 75) {
      append(rigs, random, ++timestamp);
      if (isPrimary) for (const rig of rigs) rig.execution.executeTo(rig.log.lastIndex);
    } else if (kind < 83) {
      committed += random(last - committed + 1);
      for (const rig of rigs) rig.commit(committed);
      // The one that restores has the state of each entry that is committed.
      if (restoring.execution.executed === committed) restoring.execution.takeSnapshot(committed);
    } else if (kind < 87) {
      isPrimary = false;
      const index = committed + random(last - committed + 1);
      goBack('a cut', (rig) => rig.truncate(index, committed));
    } else if (kind < 89) {
      isPrimary = false;
      goBack('a rewind', (rig) => rig.execution.rewind(committed));
    } else if (kind < 93) {
      isPrimary = true;
      for (const rig of rigs) rig.execution.executeTo(rig.log.lastIndex);
      compare('executing on');
    } else if (kind < 96) {
      const { execution } = undoing;
      const before = execution.unfinished.snapshot;
      execution.beginSnapshot();
      const { snapshot, isUnderway } = execution.unfinished;
      if (isUnderway && snapshot !== before) expected.set(nameOf(snapshot), undoing.state);
    } else if (undoing.execution.unfinished.isUnderway) {
      const { snapshot } = undoing.execution.unfinished;
      undoing.execution.continueSnapshot(1 + random(400));
      if (!undoing.execution.unfinished.isUnderway) {
        const { stable, provisional } = undoing.execution;
        const taken = provisional ?? stable;
        if (taken.index !== snapshot.index || !expected.get(nameOf(taken))!.equals(taken.bytes))
          throw new Error(`seed ${seed}: a snapshot in pieces is not what it was when it began`);
        seen.finished++;
      }
    }
    const { stable } = undoing.execution;
    const cut = Math.min(stable.index, restoring.execution.stable.index);
    for (const { log } of rigs) if (cut > log.baseIndex) log.cut(cut);
  }
}

t.test('undoing is restoring and executing again', (t) => {
  const seen: Seen = { undone: 0, restored: 0, wentOn: 0, finished: 0, gaveUp: 0, features: 0, hosts: 0 };
  for (let game = 0; game < 12; game++) walk(SEED + game, game % 4 === 3 ? 1 << 10 : 1 << 20, seen);
  t.comment(JSON.stringify(seen));
  for (const [name, times] of Object.entries(seen)) t.ok(times > 0, `${name}: ${times}`);
  t.end();
});
