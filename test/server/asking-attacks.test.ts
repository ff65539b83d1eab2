// Attacks on the questions for the members, over sockets: by strangers, and under a client's key.
import { randomBytes } from 'node:crypto';
import { createSocket, type Socket } from 'node:dgram';
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { loadCluster, type ClusterConfig } from '../../src/host/cluster-config.js';
import type { KeyEntry, KeyFile } from '../../src/host/key-file.js';
import { Keyring } from '../../src/host/keyring.js';
import { KvMachine } from '../../src/machine/kv.js';
import { loadHash } from '../../src/native/hash64.js';
import type { Replica } from '../../src/server/replica.js';
import { AMPLIFICATION } from '../../src/wire/address-proofs.js';
import { CLIENT_SENDER, ENVELOPE_BYTES, Envelope, NO_KEY } from '../../src/wire/envelope.js';
import { WAITING_ID } from '../../src/wire/host-ids.js';
import { begin } from '../../src/wire/layout.js';
import { EPOCHS_BYTES, encodeMemberList, listDigest } from '../../src/wire/member-list.js';
import { AskMembers, Members } from '../../src/wire/messages.js';
import { writeI32, writeU16 } from '../../src/wire/u64.js';
import { clusterConfig, startReplicas } from './fixtures.js';

const hash = loadHash();
/** Never listed in a cluster of one. */
const STRANGE_ID = 9;

async function until(condition: () => boolean, what: string, each: () => void): Promise<void> {
  const endMs = performance.now() + 120_000;
  while (!condition()) {
    if (performance.now() > endMs) throw new Error(`timed out waiting until ${what}`);
    each();
    await sleep(10);
  }
}

interface Attacker {
  sent: number;
  readonly received: Buffer[];
  send(messages: Uint8Array): void;
}

/** Speaks under an id that it chose. */
async function attacker(t: Test, cluster: ClusterConfig, id: number, keys?: Keyring): Promise<Attacker> {
  const socket: Socket = createSocket('udp4');
  t.teardown(() => socket.close());
  socket.bind(0, '127.0.0.1');
  await once(socket, 'listening');
  const { idHi, idLo, replicas } = loadCluster(cluster);
  const envelope = new Envelope(hash, idHi, idLo, id, 0, keys);
  const it: Attacker = {
    sent: 0,
    received: [],
    send(messages) {
      const head = envelope.bytesIn(envelope.newest);
      const bytes = new Uint8Array(head + messages.length);
      bytes.set(messages, head);
      envelope.seal(bytes, 0, bytes.length, keys?.own ?? NO_KEY);
      it.sent += bytes.length;
      socket.send(bytes, replicas[0]!.port, replicas[0]!.host);
    },
  };
  socket.on('message', (bytes) => it.received.push(bytes));
  return it;
}

/** A list of the attacker's choice, as an answer to the question with this number. */
function members(nonce: Uint8Array): Uint8Array {
  const list = encodeMemberList({
    started: 3,
    decided: 3,
    index: 1_000,
    nextId: 10,
    hosts: [{ id: STRANGE_ID, slot: 0, address: '10.9.9.9:1', identity: undefined, votes: true, willVote: true }],
  });
  const length = list.length - EPOCHS_BYTES;
  const bytes = new Uint8Array(Members.size + length);
  begin(Members, bytes, 0);
  bytes.set(nonce, Members.at.nonce);
  writeI32(bytes, Members.at.epochs, (3 << 16) | 3);
  writeI32(bytes, Members.at.digest, listDigest(list, hash));
  writeU16(bytes, Members.at.length, length);
  writeU16(bytes, Members.at.list, length);
  bytes.set(list.subarray(EPOCHS_BYTES), Members.size);
  return bytes;
}

const knows = (replica: Replica): number => replica['core'].state.members.index;

t.test('a stranger gets at most three times its bytes, and is not believed without the number', async (t) => {
  const cluster = await clusterConfig(1);
  const [replica] = await startReplicas(cluster, () => new KvMachine());
  t.teardown(() => replica!.close());
  const waiting = await attacker(t, cluster, WAITING_ID);
  const strange = await attacker(t, cluster, STRANGE_ID);
  const heard = (): number => replica!.status().drops['sender']!;
  for (let i = 0; i < 20; i++) waiting.send(members(new Uint8Array(8)));
  await until(
    () => heard() >= 20,
    'the waiting host was heard',
    () => undefined,
  );
  const short = new Uint8Array(AskMembers.size);
  begin(AskMembers, short, 0);
  // So little, and each heard before the next, that a question too many or too long would show.
  for (let spoken = 1; spoken <= 8 || (strange.received.length < 2 && spoken < 1_000); spoken++) {
    strange.send(short);
    await until(
      () => heard() >= 20 + spoken,
      'it was heard',
      () => undefined,
    );
    await sleep(120);
  }
  t.ok(strange.received.length >= 2, 'it is asked');
  const bytes = strange.received.reduce((sum, each) => sum + each.length, 0);
  t.ok(bytes <= AMPLIFICATION * strange.sent, `${bytes} bytes for ${strange.sent}`);
  t.ok(
    strange.received.every((each) => each[ENVELOPE_BYTES + 1] === AskMembers.type),
    'questions, and nothing else',
  );
  t.same(waiting.received, [], 'one that waits to be added is not asked');
  const nonce = strange.received
    .at(-1)!
    .subarray(ENVELOPE_BYTES + AskMembers.at.nonce)
    .subarray(0, 8);
  const wrong = Uint8Array.from(nonce);
  wrong[7]! ^= 1;
  const { drops } = replica!.status();
  strange.send(members(wrong));
  await until(
    () => replica!.status().drops['sender']! > drops['sender']!,
    'its answer has come',
    () => undefined,
  );
  t.equal(knows(replica!), 0);
});

t.test('a key of a client neither asks replicas to ask, nor tells them who the members are', async (t) => {
  const entry = (id: number, role: KeyEntry['role']): KeyEntry => ({
    id,
    role,
    secret: randomBytes(32).toString('hex'),
  });
  const cluster = { ...(await clusterConfig(1)), authentication: 'keys' as const };
  const own = entry(1, 'replica');
  const others = [entry(22, 'client'), entry(23, 'operator'), entry(24, 'read-only')];
  const file = (use: KeyEntry, ...more: KeyEntry[]): KeyFile => ({
    schema: 'jitpaxos.keys/1',
    cluster: cluster.id,
    use: use.id,
    keys: [use, ...more],
  });
  const [replica] = await startReplicas(cluster, () => new KvMachine(), { keys: file(own, ...others) });
  t.teardown(() => replica!.close());
  for (const key of others) {
    const ring = new Keyring(file(key), false);
    t.teardown(() => ring.close());
    for (const id of [STRANGE_ID, 0, CLIENT_SENDER]) {
      const liar = await attacker(t, cluster, id, ring);
      const before = replica!.status().drops['role']!;
      await until(
        () => replica!.status().drops['role']! > before,
        `${key.role} as ${id} is refused`,
        () => liar.send(members(new Uint8Array(8))),
      );
      const type = id === CLIENT_SENDER ? 'a client' : `host ${id}`;
      t.equal(replica!.status().drops['sender'], 0, `${key.role} as ${type} is no stranger`);
    }
  }
  t.equal(replica!['memberSearch'].asked, 0, 'nobody was asked');
  t.equal(knows(replica!), 0);
});
