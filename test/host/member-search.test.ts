// Whom a process asks who the members are, and whose answer it believes: with the service that answers.
import t from 'tap';
import { MemberSearch } from '../../src/host/member-search.js';
import type { TurnLoop } from '../../src/host/turn-loop.js';
import { loadHash } from '../../src/native/hash64.js';
import type { Instant } from '../../src/protocol/contract.js';
import { MembersService } from '../../src/server/members-service.js';
import { HOST_PLACES, PLACES } from '../../src/wire/host-ids.js';
import type { MemberList } from '../../src/wire/member-list.js';
import { Members } from '../../src/wire/messages.js';
import { writeU16 } from '../../src/wire/u64.js';

const HOST = 1;
const CLIENT = PLACES;
const NOW: Instant = { monotonicUs: 1e9, wallHi: 0, wallLo: 0 };

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

function searching(): {
  search: MemberSearch;
  asked: { to: number; bytes: Uint8Array }[];
  found: MemberList[];
  answer: (question: Uint8Array) => Uint8Array;
} {
  const asked: { to: number; bytes: Uint8Array }[] = [];
  const found: MemberList[] = [];
  const loop = {
    datagramBytes: 1_432,
    outbox: { sendNewest: (to: number, bytes: Uint8Array) => asked.push({ to, bytes }) },
    isHost: () => true,
    address: () => undefined,
  } as unknown as TurnLoop;
  const search = new MemberSearch(loop, [], loadHash(), (list) => found.push(list));
  const bytes = new Uint8Array(2_000);
  let length = 0;
  const outbox = {
    bytes,
    reserve: () => 0,
    commit: (committed: number) => (length = committed),
  } as unknown as ConstructorParameters<typeof MembersService>[2];
  const service = new MembersService(
    () => LIST,
    () => 5,
    outbox,
    loadHash(),
  );
  return {
    search,
    asked,
    found,
    answer: (question) => {
      service.onAskMembers(question, 0, HOST, NOW, 0, true);
      return bytes.slice(0, length);
    },
  };
}

t.test('a list in several pieces is asked for, put together, and found once', (t) => {
  const { search, asked, found, answer } = searching();
  search.ask(HOST, NOW);
  for (let next = 0; next < asked.length; next++) search.onMembers(answer(asked[next]!.bytes), 0, HOST, NOW);
  t.ok(asked.length > 1 && asked.length < 12, `${asked.length} questions`);
  t.ok(asked.every(({ to }) => to === HOST));
  t.same(found, [LIST]);
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
  search.onMembers(short, 0, HOST, NOW);
  t.equal(asked.length, 1);
  t.same(found, []);
  t.end();
});
