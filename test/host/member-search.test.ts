// Whom a process asks who the members are, how often, and whose answer it believes: with the service that answers.
import t from 'tap';
import { MemberSearch } from '../../src/host/member-search.js';
import { FORGET_US, HOLD_US, PAUSE_MAX_US } from '../../src/host/strange-host.js';
import { STRANGE_HOST, type TurnLoop } from '../../src/host/turn-loop.js';
import { loadHash } from '../../src/native/hash64.js';
import type { Instant } from '../../src/protocol/contract.js';
import { Asker } from '../../src/server/members-rates.js';
import { MembersService } from '../../src/server/members-service.js';
import { AMPLIFICATION } from '../../src/wire/address-proofs.js';
import { ENVELOPE_BYTES_MAX } from '../../src/wire/envelope.js';
import { HOST_PLACES, PLACES, WAITING_ID } from '../../src/wire/host-ids.js';
import type { MemberList } from '../../src/wire/member-list.js';
import { AskMembers, Members } from '../../src/wire/messages.js';
import { readI32, writeU16 } from '../../src/wire/u64.js';

const HOST = 1;
const CLIENT = PLACES;
const START_US = 1e9;
const at = (us: number): Instant => ({ monotonicUs: START_US + us, wallHi: 0, wallLo: 0 });
const NOW = at(0);

/** 31 hosts, whose list is longer than a datagram. */
const LIST: MemberList = {
  started: 2,
  decided: 2,
  index: 40,
  nextId: HOST_PLACES,
  hosts: Array.from({ length: HOST_PLACES }, (_, id) => ({
    id,
    slot: id,
    address: `${'host-with-a-long-name.'.repeat(3)}${id}.example:7000`,
    identity: undefined,
    votes: id < 3,
    willVote: id < 3,
  })),
};
const SHORT: MemberList = { ...LIST, hosts: LIST.hosts.slice(0, 3) };

interface Searching {
  readonly search: MemberSearch;
  readonly asked: { to: number; bytes: Uint8Array }[];
  readonly found: MemberList[];
  /** Calls of the loop about the place of the strange host. */
  readonly strangers: string[];
  readonly placed: number[];
  known: { index: number; nextId: number };
  answer(question: Uint8Array): Uint8Array;
}

function searching(list: MemberList = LIST): Searching {
  const asked: Searching['asked'] = [];
  const found: MemberList[] = [];
  const strangers: string[] = [];
  const placed: number[] = [];
  const loop = {
    datagramBytes: 1_432,
    outbox: { sendNewest: (to: number, bytes: Uint8Array) => asked.push({ to, bytes }) },
    isHost: (slot: number) => slot < 3 && slot !== 0,
    address: (place: number) => placed.push(place),
    placeStranger: () => strangers.push('placed'),
    forgetStranger: () => strangers.push('forgotten'),
  } as unknown as TurnLoop;
  const bytes = new Uint8Array(2_000);
  let length = 0;
  const outbox = {
    bytes,
    reserve: () => 0,
    commit: (committed: number) => (length = committed),
  } as unknown as ConstructorParameters<typeof MembersService>[2];
  const service = new MembersService(
    () => list,
    () => 5,
    outbox,
    loadHash(),
  );
  let us = 0;
  const it: Searching = {
    search: new MemberSearch(
      loop,
      [{ host: '10.0.0.9', port: 1 }],
      loadHash(),
      () => it.known,
      (each) => found.push(each),
    ),
    asked,
    found,
    strangers,
    placed,
    known: { index: 0, nextId: 3 },
    answer: (question) => {
      length = 0;
      service.onAskMembers(question, 0, HOST, at((us += 100_000)), 0, Asker.host);
      return bytes.slice(0, length);
    },
  };
  return it;
}

const nonceOf = (question: Uint8Array): string =>
  `${readI32(question, AskMembers.at.nonce)} ${readI32(question, AskMembers.at.nonce + 4)}`;

t.test('a list in several pieces is asked for, put together, and found once', (t) => {
  const { search, asked, found, answer } = searching();
  search.ask(HOST, NOW);
  const answers: Uint8Array[] = [];
  for (let next = 0; next < asked.length; next++) {
    answers.push(answer(asked[next]!.bytes));
    search.onMembers(answers[next]!, 0, NOW);
  }
  t.ok(asked.length > 1 && asked.length < 12, `${asked.length} questions`);
  t.ok(asked.every(({ to }) => to === HOST));
  t.same(found, [LIST]);
  for (const again of answers) search.onMembers(again, 0, NOW);
  t.equal(found.length, 1, 'an answer counts once');
  t.end();
});

t.test('a piece that is lost is asked for again', (t) => {
  const { search, asked, found, answer } = searching();
  search.ask(HOST, NOW);
  search.onMembers(answer(asked[0]!.bytes), 0, NOW);
  const first = asked.length;
  t.ok(first >= 3);
  for (let next = 2; next < first; next++) search.onMembers(answer(asked[next]!.bytes), 0, NOW);
  t.same(found, [], 'the second one is lost');
  search.ask(HOST, at(300_000));
  t.equal(asked.length, first + 1);
  t.equal(nonceOf(asked[first]!.bytes), nonceOf(asked[0]!.bytes), 'the question waits for its answer');
  search.onMembers(answer(asked[first]!.bytes), 0, at(400_000));
  t.equal(asked.length, first + 2, 'only what is missing is asked for');
  search.onMembers(answer(asked[first + 1]!.bytes), 0, at(500_000));
  t.same(found, [LIST]);
  t.end();
});

t.test('an answer counts only to the question that was asked there, and for a while', (t) => {
  const { search, asked, found, answer } = searching(SHORT);
  search.ask(1, NOW);
  search.ask(2, NOW);
  t.not(nonceOf(asked[0]!.bytes), nonceOf(asked[1]!.bytes), 'each place gets a number of its own');
  const unasked = asked[1]!.bytes.slice();
  unasked[AskMembers.at.nonce]! ^= 1;
  search.onMembers(answer(unasked), 0, NOW);
  t.equal(found.length, 0, 'a number that was not given');
  search.onMembers(answer(asked[0]!.bytes), 0, NOW);
  t.equal(found.length, 1);
  search.onMembers(answer(asked[0]!.bytes), 0, NOW);
  t.equal(found.length, 1, 'a number that was used');
  search.onMembers(answer(asked[1]!.bytes), 0, at(3_000_000));
  t.equal(found.length, 1, 'an answer that took too long');
  search.ask(2, at(3_000_000));
  t.not(nonceOf(asked[2]!.bytes), nonceOf(asked[1]!.bytes), 'a later question is another one');
  search.onMembers(answer(asked[1]!.bytes), 0, at(3_000_000));
  t.equal(found.length, 1);
  search.onMembers(answer(asked[2]!.bytes), 0, at(3_000_000));
  t.equal(found.length, 2);
  t.end();
});

t.test('a client is not asked', (t) => {
  const { search, asked } = searching();
  search.ask(CLIENT, NOW);
  t.equal(asked.length, 0);
  t.end();
});

t.test('a first piece of a byte does not make thousands of questions', (t) => {
  const { search, asked, found, answer } = searching();
  search.ask(HOST, NOW);
  const short = answer(asked[0]!.bytes);
  writeU16(short, Members.at.list, 1);
  search.onMembers(short, 0, NOW);
  t.equal(asked.length, 1);
  t.same(found, []);
  t.end();
});

t.test('a first piece that comes again and again does not make questions without end', (t) => {
  const { search, asked, answer } = searching();
  search.ask(HOST, NOW);
  const first = answer(asked[0]!.bytes);
  for (let us = 0; us < 1_000_000; us += 1_000) search.onMembers(first, 0, at(us));
  const pieces = asked.length - 1;
  t.ok(pieces <= 11 * 8, `${pieces} questions for pieces in a second`);
  t.end();
});

t.test('as long as no change is known, one host is asked at a time, with growing pauses', (t) => {
  const it = searching();
  for (let us = 0; us < 20_000_000; us += 1_000) it.search.search(at(us));
  t.ok(it.asked.length >= 10 && it.asked.length <= 16, `${it.asked.length} questions in twenty seconds`);
  t.same([...new Set(it.asked.map(({ to }) => to))], [1, 2], 'the hosts only: the seeds are the same ones');
  t.same(it.placed, []);
  const before = it.asked.length;
  it.search.search(at(60_000_000));
  it.search.search(at(60_110_000));
  t.equal(it.asked.length, before + 2, 'after a quiet time the pauses begin anew');
  it.known = { index: 7, nextId: 4 };
  it.search.search(at(70_000_000));
  t.equal(it.asked.length, before + 5, 'later all are asked, in turn');
  t.ok(
    it.asked.some(({ to }) => to >= HOST_PLACES),
    'the seeds, too',
  );
  t.end();
});

t.test('a host that is not listed is asked', async (t) => {
  const long = 300;
  await t.test('only if it may have been listed since', (t) => {
    const it = searching();
    it.known = { index: 9, nextId: 5 };
    for (const id of [0, 3, 4, WAITING_ID]) it.search.unlisted(id, CLIENT, long, NOW);
    t.same([it.asked, it.strangers], [[], []], 'those have left, or wait to be added');
    it.search.unlisted(5, CLIENT, long, NOW);
    t.same(
      it.asked.map(({ to }) => to),
      [STRANGE_HOST],
    );
    t.same(it.strangers, ['placed']);
    t.end();
  });

  await t.test('with no more bytes than three times its own', (t) => {
    const speaks = (everyUs: number): { readonly it: Searching; readonly us: number } => {
      const it = searching();
      let received = 0;
      let us = 0;
      for (; us < 20_000_000; us += everyUs) {
        it.search.unlisted(9, CLIENT, 70, at(us));
        received += 70;
        const sent = it.asked.reduce((sum, { bytes }) => sum + bytes.length + ENVELOPE_BYTES_MAX, 0);
        if (sent > AMPLIFICATION * received) t.fail(`${sent} bytes for ${received} after ${us} µs`);
      }
      return { it, us };
    };
    speaks(100_000); // so slowly that the bytes are what holds questions back
    const speaker = speaks(1_000);
    const { it } = speaker;
    let { us } = speaker;
    t.ok(it.asked.length >= 1);
    t.ok(it.asked.length <= 9, `${it.asked.length} questions to one that speaks for twenty seconds, and never answers`);
    const before = it.asked.length;
    for (; us < 600_000_000; us += 10_000) it.search.unlisted(9, CLIENT, 70, at(us));
    t.ok(it.asked.length - before <= 12, `${it.asked.length - before} in the ten minutes that follow`);
    t.end();
  });

  await t.test('one address at a time, whoever else speaks', (t) => {
    const it = searching(SHORT);
    it.search.unlisted(9, CLIENT, long, NOW);
    for (let other = 1; other < 1_000; other++) it.search.unlisted(9, CLIENT + other, long, at(other));
    t.same([it.asked.length, it.strangers], [1, ['placed']]);
    it.search.onMembers(it.answer(it.asked[0]!.bytes), 0, at(2_000));
    t.same(it.found, [SHORT], 'it is heard in a crowd');
    it.search.unlisted(9, CLIENT + 1, long, at(HOLD_US + 1));
    t.same(it.strangers, ['placed', 'placed'], 'then it is the turn of another');
    t.end();
  });

  await t.test('with the rest of its list, as far as its bytes reach', (t) => {
    const it = searching();
    it.search.unlisted(40, CLIENT, 1_432, NOW);
    for (let next = 0; next < it.asked.length; next++) {
      const answer = it.answer(it.asked[next]!.bytes);
      it.search.unlisted(40, CLIENT, answer.length + ENVELOPE_BYTES_MAX, at(next));
      it.search.onMembers(answer, 0, at(next));
    }
    t.ok(it.asked.every(({ to }) => to === STRANGE_HOST));
    t.ok(it.asked.length >= 3, `${it.asked.length} questions`);
    t.end();
  });

  await t.test('and forgotten when it is silent', (t) => {
    const it = searching();
    it.search.unlisted(9, CLIENT, long, NOW);
    it.search.unlisted(9, CLIENT + 1, 1, at(FORGET_US + 1));
    t.same(it.strangers, ['placed', 'forgotten', 'placed']);
    t.end();
  });

  await t.test('anew after a quiet time, and at once when its word was of use', (t) => {
    const it = searching(SHORT);
    for (let us = 0; us < 30_000_000; us += 100_000) it.search.unlisted(9, CLIENT, long, at(us));
    const before = it.asked.length;
    const quiet = 30_000_000 + 2 * PAUSE_MAX_US;
    it.search.unlisted(9, CLIENT, 1_000, at(quiet));
    t.equal(it.asked.length, before + 1);
    it.search.unlisted(9, CLIENT, 1_000, at(quiet + 1_000));
    t.equal(it.asked.length, before + 1);
    it.search.onMembers(it.answer(it.asked.at(-1)!.bytes), 0, at(quiet + 2_000));
    t.equal(it.found.length, 1);
    it.search.unlisted(9, CLIENT, 1_000, at(quiet + 3_000));
    t.equal(it.asked.length, before + 2);
    t.end();
  });
});
