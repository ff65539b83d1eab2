// The chain: what a client can do about it without keys, that it cannot with them, and replicas that chain otherwise.
import t from 'tap';
import { KvMachine } from '../../src/machine/kv.js';
import { encodeGet, encodePut } from '../../src/machine/kv-codec.js';
import { loadSipHash } from '../../src/native/siphash.js';
import { chainOf, UNKEYED_FINGERPRINT, type Chain } from '../../src/protocol/contract.js';
import { ENTRY_HEADER_BYTES } from '../../src/protocol/log/entry.js';
import { wordsOf } from '../../src/wire/copy.js';
import { Chunk, Reply, Request, RequestFlag, ViewChange, Vote } from '../../src/wire/messages.js';
import { Cluster, hasher, type HandClient } from './harness.js';

/** Bytes 0 to 63 of the secret that XXH3 has when nobody gives it one (xxHash, xxhash.h, kSecret). */
const XXH3_SECRET = Buffer.from(
  'b8fe6c3923a44bbe7c01812cf721ad1cded46de9839097db7240a4a4b7b3671fcb79e64eccc0e578825ad07dccff7221b8084674f743248ee03590e6813a264c',
  'hex',
);

/**
 * Of 64 bytes, chain and header included, XXH3 takes the last 16 as (a ^ secret) * (b ^ secret): with a equal to the
 * secret nothing comes of b. So operations that differ in b alone have one chain, whatever stands before them.
 */
function colliding(b: string, query = false): Uint8Array {
  const block = Buffer.concat([XXH3_SECRET.subarray(56, 64), XXH3_SECRET.subarray(16, 24), Buffer.from(b)]);
  const out = new Uint8Array(64);
  return out.slice(
    0,
    query
      ? encodeGet(out, 0, Buffer.concat([Buffer.from('abcde'), block]))
      : encodePut(out, 0, Buffer.from('abc'), block),
  );
}

function keyedChain(secret: number): Chain {
  return chainOf(loadSipHash(new Uint8Array(16).fill(secret)), 1000 + secret);
}

const digest = (chain: Pick<Chain, 'hash64'>, operation: Uint8Array): string => {
  const bytes = Buffer.concat([Buffer.alloc(32, 7), operation]);
  const out = Buffer.alloc(8);
  chain.hash64(bytes, 0, bytes.length, out, 0);
  return out.toString('hex');
};

const request = (hand: HandClient, lane: number, timestamp: number, operation: Uint8Array, flags = 0) => ({
  view: 0,
  session: hand.session,
  lane,
  request: 1,
  flags,
  timestamp: BigInt(timestamp),
  operation,
});

/** An entry as it goes over the wire. */
function entryOf(c: Cluster, replica: number, index: number): Buffer {
  const { state } = c.replica(replica);
  const bytes = Buffer.alloc(ENTRY_HEADER_BYTES + state.log.operationLength(index));
  state.log.writeEntry(index, wordsOf(bytes), 0);
  return bytes;
}

function registered(options: { readonly chain?: (id: number) => Chain }): { c: Cluster; mallory: HandClient } {
  const c = new Cluster(3, { machine: () => new KvMachine(), late: 'restamp', ...options });
  const mallory = c.hand();
  c.give(mallory, Request, mallory.registration(1_000_000_100), 0, 1);
  c.settle();
  c.run(20_000);
  return { c, mallory };
}

for (const query of [false, true]) {
  const what = query ? 'two reads through the log, which a read-only key may send' : 'two writes';
  const flags = query ? RequestFlag.query : 0;
  const [a, b] = [colliding('AAAAAAAA', query), colliding('BBBBBBBB', query)];

  t.test(`${what}, one to each member: without keys one chain, with keys two`, (t) => {
    t.not(Buffer.compare(a, b), 0);
    t.equal(digest(hasher, a), digest(hasher, b), 'XXH3: anybody can make such a pair');
    t.not(digest(keyedChain(1), a), digest(keyedChain(1), b), 'SipHash: nobody without the secret');
    for (const keyed of [false, true]) {
      const { c, mallory } = registered(keyed ? { chain: () => keyedChain(1) } : {});
      c.replica(0).receive(Request, request(mallory, 0, 1_015_000_000, a, flags), mallory.endpoint);
      c.replica(1).receive(Request, request(mallory, 0, 1_015_000_000, b, flags), mallory.endpoint);
      const replies = c.take({ message: Reply, to: mallory.endpoint }).map(({ values }) => values['chain']);
      t.equal(replies.length, 2);
      t.equal(
        replies[0] === replies[1],
        !keyed,
        keyed
          ? 'the chains differ, and the client has nothing that commits'
          : 'the chains are equal: a client takes it for committed',
      );
      if (!keyed) continue;
      c.run(30_000);
      t.same(
        entryOf(c, 1, c.replica(1).last),
        entryOf(c, 0, c.replica(0).last),
        "the member takes the primary's operation",
      );
      t.equal(c.replica(1).state.committed, c.replica(0).last);
    }
    t.end();
  });

  t.test(
    `${what}: a Chunk that comes late contradicts what is committed here; it is refused and named, and nobody stops`,
    (t) => {
      const { c, mallory } = registered({});
      const plain = new Uint8Array(64);
      const first = plain.slice(
        0,
        query ? encodeGet(plain, 0, Buffer.from('e')) : encodePut(plain, 0, Buffer.from('e'), Buffer.from('1')),
      );
      c.replica(0).receive(Request, request(mallory, 0, 1_015_000_000, first, flags), mallory.endpoint);
      c.replica(0).receive(Request, request(mallory, 1, 1_015_000_001, a, flags), mallory.endpoint);
      // The member is behind and fetches; the answer stays on the network.
      const held = [];
      for (let i = 0; i < 20 && held.length === 0; i++) {
        c.pass(1000);
        for (let k = 0; k < 5; k++) {
          held.push(...c.take({ message: Chunk, to: 1 }));
          c.deliver();
        }
      }
      t.ok(held.length > 0);
      c.replica(1).receive(Request, request(mallory, 0, 1_015_000_000, first, flags), mallory.endpoint);
      c.replica(1).receive(Request, request(mallory, 1, 1_015_000_001, b, flags), mallory.endpoint);
      for (let i = 0; i < 15; i++) {
        c.pass(1000);
        for (let k = 0; k < 5; k++) {
          c.lose({ message: Chunk });
          c.deliver();
        }
      }
      const { state } = c.replica(1);
      t.equal(state.committed, c.replica(0).last, 'both committed it, each its own: so it is without keys');
      const before = entryOf(c, 1, state.committed);
      for (let times = 0; times < 3; times++) c.arrive(held[0]!);
      t.same(entryOf(c, 1, state.committed), before, 'what is committed stays');
      t.ok(
        c.replica(1).transitions.some((event) => event.startsWith('contradicted:')),
        'it is named',
      );
      t.end();
    },
  );
}

t.test(
  'a replica whose chain has another secret is not heard, hears nobody, and both sides say why; the others go on without it',
  (t) => {
    for (const [odd, event] of [
      [0, 'as the primary'],
      [1, 'as a member'],
      [2, 'as a spare'],
    ] as const) {
      const c = new Cluster(3, { chain: (id) => keyedChain(id === odd ? 2 : 1) });
      const client = c.client();
      client.register();
      c.run(1_000_000);
      t.same(client.registrations, [0], `${event}: a client is served`);
      client.submit('hello');
      c.run(500_000);
      t.equal(client.completions.length, 1);
      const others = [0, 1, 2].filter((id) => id !== odd);
      for (const id of others) {
        t.ok(
          c
            .replica(id)
            .transitions.some((said) =>
              said.startsWith(`chain-differs: replica ${odd} chains its log under another secret`),
            ),
          `replica ${id} names it`,
        );
        t.equal(c.replica(id).state.others.otherChain, 1 << odd);
        t.same(c.replica(id).operations, ['R', 'hello']);
      }
      t.notOk(c.replica(others[0]!).state.views.isMember(c.replica(others[0]!).state.view, odd), 'a view without it');
      t.equal(
        c.replica(odd).state.others.otherChain,
        others.reduce((mask, id) => mask | (1 << id), 0),
        'it names both others',
      );
      t.equal(c.replica(odd).state.committed, 0);

      c.replica(odd).crash();
      c.replica(odd).chained = keyedChain(1);
      c.replica(odd).start(true);
      c.run(1_000_000);
      t.same(c.replica(odd).operations, ['R', 'hello'], 'with the right secret it is one of them again');
      for (const id of [0, 1, 2]) t.equal(c.replica(id).state.others.otherChain, 0);
      t.ok(c.replica(others[0]!).transitions.some((said) => said.startsWith(`chain-agrees: replica ${odd}`)));
    }
    t.end();
  },
);

t.test('nothing of a replica with another chain counts: neither its vote nor that it asks for a view', (t) => {
  const { c } = registered({ chain: () => keyedChain(1) });
  const { state } = c.replica(1);
  c.replica(1).receive(
    Vote,
    {
      view: 1,
      logView: 0,
      lastIndex: 9n,
      lastChain: 9n,
      committedIndex: 9n,
      committedChain: 9n,
      fingerprint: UNKEYED_FINGERPRINT,
    },
    2,
  );
  t.equal(state.view, 0, 'a vote of a replica without keys is not one');
  t.equal(state.others.otherChain, 1 << 2);
  c.replica(1).receive(ViewChange, { view: 1 }, 2);
  t.equal(state.view, 0, 'nor is what it asks for heard, which says nothing of its chain');
  c.replica(1).receive(
    Vote,
    { view: 1, logView: 0, lastIndex: 9n, lastChain: 9n, committedIndex: 0n, committedChain: 0n },
    0,
  );
  t.equal(state.view, 1, 'one that does not say, of the previous version of the wire, is');
  t.end();
});
