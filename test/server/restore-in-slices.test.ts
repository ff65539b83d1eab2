// The state that a replica starts from: restored in slices, while the process does other things.
import t from 'tap';
import { KvMachine } from '../../src/machine/kv.js';
import { encodePut } from '../../src/machine/kv-codec.js';
import type { RestoreInPieces, StateMachine } from '../../src/machine/state-machine.js';
import type { Snapshot } from '../../src/protocol/contract.js';
import { firstMembership } from '../../src/protocol/membership/membership.js';
import { loadHash } from '../../src/native/hash64.js';
import { Log } from '../../src/protocol/log/log.js';
import { encodeSnapshot } from '../../src/protocol/log/snapshots.js';
import { SessionTable } from '../../src/protocol/log/sessions.js';
import { restoreInSlices, restoreProgress } from '../../src/server/restore-in-slices.js';

const KEYS = 100_000;

function filled(): KvMachine {
  const machine = new KvMachine();
  const operation = { bytes: new Uint8Array(200), offset: 0, length: 0 };
  const reply = { bytes: new Uint8Array(64), offset: 0, capacity: 64, length: 0 };
  for (let i = 0; i < KEYS; i++) {
    operation.length = encodePut(operation.bytes, 0, Buffer.from(`key ${i}`), new Uint8Array(50));
    machine.apply(operation, { timestampHi: 0, timestampLo: 0, index: 1 }, reply);
  }
  return machine;
}

function snapshotOf(machine: StateMachine): Snapshot {
  const log = new Log(16, 1 << 16, 1 << 10, loadHash());
  return encodeSnapshot(log, 0, 0, firstMembership(3), new SessionTable(1, 1, 0), machine.snapshot());
}

t.test('a large state is restored in many slices, and taken up in one step', async (t) => {
  const machine = filled();
  const snapshot = snapshotOf(machine);
  const fresh = new KvMachine();
  let turns = 0;
  let restored: RestoreInPieces | undefined;
  const heard: number[] = [];
  const progress = (bytes: number, ofBytes: number): void => {
    heard.push(bytes);
    if (ofBytes !== machine.snapshot().length) t.fail(`of ${ofBytes} bytes`);
  };
  const done = restoreInSlices(fresh, snapshot, progress).then((restore) => (restored = restore));
  const turn = (): void => {
    turns++;
    if (restored === undefined) setImmediate(turn);
  };
  setImmediate(turn);
  await done;
  t.ok(turns > 3, `the loop had ${turns} turns in between`);
  t.ok(heard.length > 3, `it says ${heard.length} times how far it is`);
  t.same(
    heard,
    [...heard].sort((a, b) => a - b),
  );
  t.equal(fresh.keyCount, 0, 'the present state is as it was');
  restored!.end();
  t.equal(fresh.keyCount, KEYS);
  t.ok(Buffer.from(fresh.snapshot()).equals(machine.snapshot()));
});

t.test('what there is to restore at once, or not at all', async (t) => {
  t.equal(await restoreInSlices(new KvMachine(), undefined), undefined);
  const machine = new KvMachine();
  const { apply, query, snapshot, restore } = machine;
  const atOnce: StateMachine = { apply, query, snapshot: snapshot.bind(machine), restore };
  t.equal(await restoreInSlices(atOnce, snapshotOf(machine)), undefined, 'the machine restores only all at once');
  const small = new KvMachine({ maxKeys: 10 });
  t.equal(await restoreInSlices(small, snapshotOf(filled())), undefined, 'the machine refuses it');
  t.equal(small.keyCount, 0);
});

t.test('how far it is, is logged once a second', (t) => {
  const said: Record<string, unknown>[] = [];
  let now = 0;
  const info = (event: string, fields?: Record<string, unknown>): void => void said.push({ event, ...fields });
  const progress = restoreProgress(2, { info }, () => now);
  for (; now < 3500; now += 2) progress(now, 4000);
  t.same(
    said.map(({ event, replica, bytes, ofBytes }) => [event, replica, bytes, ofBytes]),
    [1000, 2000, 3000].map((bytes) => ['replica.restoring', 2, bytes, 4000]),
  );
  t.end();
});
