// The four times behind one-way delays: what a replica answers and when, its bounds, and what a client makes of it.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { TimeQuestions, type OneWaySample, type OwnClock } from '../../src/client/time-questions.js';
import { sameClock, writeClockDigest } from '../../src/clock/clock-digest.js';
import type { ClockEpoch } from '../../src/clock/clock.js';
import { loadHash } from '../../src/native/hash64.js';
import { Instant } from '../../src/protocol/contract.js';
import { TIMES_RATES, TimesService, WAITING_MAX } from '../../src/server/times-service.js';
import { AskTimes, Times, validate } from '../../src/wire/messages.js';
import { writeU16 } from '../../src/wire/u64.js';
import { TestOutbox, type Message } from '../server/watching.js';

const hash = loadHash();
const REPLICA = 2;
const CLIENT = 40;
/** Nanoseconds since the epoch, at the start of a test. */
const START_NS = 1_764_500_000n * 1_000_000_000n;

interface WorldOptions {
  /** The replica's clock minus true time. The client's is right. */
  readonly offsetNs?: number;
  readonly replicaErrorNs?: number | null;
  readonly ownErrorNs?: number | null;
  readonly replicaEpoch?: ClockEpoch;
  readonly source?: string;
}

/** A client and a replica in virtual time: `there` and `back` are the ways, `inside` what the turn takes. */
class World {
  trueNs = START_NS;
  durable = 0;
  awaited = 0;
  readonly samples: OneWaySample[] = [];
  readonly asked: number[] = [];
  /** Messages on their way. */
  private readonly questionsSent: Message[] = [];
  private readonly answersSent: Message[] = [];
  readonly service: TimesService;
  readonly questions: TimeQuestions;
  private readonly digest = new Uint8Array(8);

  constructor(private readonly options: WorldOptions = {}) {
    const { replicaErrorNs = 30_000, ownErrorNs = 20_000, replicaEpoch = 'utc', source = 'phc:/dev/ptp0' } = options;
    const own: OwnClock = { epoch: 'utc', errorNs: ownErrorNs, digest: this.digest };
    writeClockDigest(source, hash, this.digest);
    this.questions = new TimeQuestions(new TestOutbox((message) => this.questionsSent.push(message)), 7, () => own, {
      asked: (place) => void this.asked.push(place),
      answered: (_, sample) => void this.samples.push(sample),
    });
    this.service = new TimesService(
      {
        view: () => 3,
        awaited: () => this.awaited,
        isDurable: (token) => token <= this.durable,
        clock: {
          source,
          epoch: replicaEpoch,
          quality: { errorNs: replicaErrorNs },
          writeHalves: (out, index) => {
            const now = this.replicaNow();
            out[index] = now.wallHi;
            out[index + 1] = now.wallLo;
          },
        },
      },
      new TestOutbox((message) => this.answersSent.push(message)),
      hash,
    );
  }

  pass(ns: number): void {
    this.trueNs += BigInt(ns);
  }

  clientNow(): Instant {
    return instant(this.trueNs);
  }

  replicaNow(): Instant {
    return instant(this.trueNs + BigInt(this.options.offsetNs ?? 0));
  }

  ask(): Uint8Array {
    this.questions.ask([REPLICA], this.clientNow());
    return this.questionsSent.shift()!.bytes;
  }

  answer(): Uint8Array | undefined {
    return this.answersSent.shift()?.bytes;
  }

  arrives(question: Uint8Array, proven = true, owner = 1): void {
    this.service.onAskTimes(question, 0, CLIENT, this.replicaNow(), owner, proven);
  }

  comesBack(answer: Uint8Array, from = REPLICA): void {
    this.questions.onTimes(answer, 0, from, this.clientNow());
  }

  exchange(thereNs: number, insideNs: number, backNs: number): OneWaySample {
    const question = this.ask();
    this.pass(thereNs);
    this.arrives(question);
    this.pass(insideNs);
    this.service.endTurn();
    const answer = this.answer()!;
    this.pass(backNs);
    this.comesBack(answer);
    return this.samples.at(-1)!;
  }
}

function instant(ns: bigint): Instant {
  const now = new Instant();
  now.wallHi = Number(BigInt.asIntN(32, ns >> 32n));
  now.wallLo = Number(BigInt.asIntN(32, ns));
  now.monotonicUs = Number((ns - START_NS) / 1000n) + 1;
  return now;
}

t.test(
  'a clock that is off by a known distance moves from one way to the other, and the truth is within the bound',
  (t) => {
    for (const offsetNs of [-50_000, 0, 50_000]) {
      const sample = new World({ offsetNs }).exchange(100_000, 7_000, 100_000);
      t.same(
        sample,
        { requestNs: 100_000 + offsetNs, replicaNs: 7_000, replyNs: 100_000 - offsetNs, boundNs: 50_000, doubt: null },
        `off by ${offsetNs} ns`,
      );
      for (const measured of [sample.requestNs, sample.replyNs]) t.ok(Math.abs(measured - 100_000) <= sample.boundNs!);
    }
    t.end();
  },
);

t.test('what is not known about the clocks is said', (t) => {
  const doubtOf = (options: WorldOptions): unknown => {
    const { boundNs, doubt } = new World(options).exchange(100_000, 0, 100_000);
    return [boundNs, doubt];
  };
  t.same(doubtOf({ ownErrorNs: null }), [null, 'own-clock']);
  t.same(doubtOf({ replicaErrorNs: null }), [null, 'replica-clock']);
  t.same(doubtOf({ replicaErrorNs: 5e9 }), [null, 'replica-clock'], 'an error that the field cannot hold');
  t.same(doubtOf({ replicaEpoch: 'tai' }), [null, 'epochs']);
  t.same(doubtOf({ replicaEpoch: 'boot' }), [null, 'epochs']);
  t.same(doubtOf({ replicaErrorNs: 0.2, ownErrorNs: 0.2 }), [2, null], 'bounds are rounded up');
  t.end();
});

t.test('processes of one host that read the same clock are not apart', (t) => {
  const sample = new World({ source: 'realtime', ownErrorNs: null, replicaErrorNs: null }).exchange(1, 2, 3);
  t.same(sample, { requestNs: 1, replicaNs: 2, replyNs: 3, boundNs: 0, doubt: null });
  const directory = mkdtempSync(join(tmpdir(), 'jitpaxos-digest-'));
  t.teardown(() => rmSync(directory, { recursive: true, force: true }));
  const digests = (source: string, ...bootIds: string[]): Uint8Array[] =>
    bootIds.map((bootId, index) => {
      const path = join(directory, String(index));
      if (bootId !== '') writeFileSync(path, bootId);
      const out = new Uint8Array(8).fill(255);
      writeClockDigest(source, hash, out, path);
      return out;
    });
  const HOST = 'e4a7cd23-caed-4430-acad-97b385777d21\n';
  const OTHER = 'f4a7cd23-caed-4430-acad-97b385777d21\n';
  const [a, b] = digests('realtime', HOST, OTHER);
  t.ok(sameClock(a!, 0, digests('realtime', HOST)[0]!, 0));
  t.notOk(sameClock(a!, 0, b!, 0), 'of another host');
  t.notOk(sameClock(a!, 0, digests('tai', HOST)[0]!, 0), 'another clock');
  for (const [source, bootId] of [
    ['disciplined:/dev/ptp0', HOST],
    ['phc:/dev/ptp0', HOST],
    ['realtime in place of a lost device', HOST],
    ['monotonic', HOST],
    ['realtime', 'no boot id'],
  ] as const) {
    const [digest] = digests(source, bootId);
    t.same([...digest!], new Array(8).fill(0), `${source}, ${bootId.trim()}`);
    t.notOk(sameClock(digest!, 0, digest!, 0), 'nobody reads the same');
  }
  const gone = new Uint8Array(8);
  writeClockDigest('realtime', hash, gone, join(directory, 'none'));
  t.same([...gone], new Array(8).fill(0), 'a host that does not say');
  t.end();
});

t.test('the answer waits for the end of the turn and for what that turn wrote, as a reply does', (t) => {
  const world = new World();
  const first = world.ask();
  world.arrives(first);
  world.awaited = 1; // the turn wrote something
  world.pass(3_000);
  world.service.endTurn();
  t.equal(world.answer(), undefined, 'it is not durable');
  const second = world.ask();
  world.pass(1_000);
  world.arrives(second);
  world.awaited = 2;
  world.service.endTurn();
  world.durable = 1;
  world.pass(500_000);
  world.service.endTurn();
  world.comesBack(world.answer()!);
  t.equal(world.answer(), undefined, 'the second one waits for the next write');
  world.durable = 2;
  world.pass(200_000);
  world.service.endTurn();
  world.comesBack(world.answer()!);
  t.same(
    world.samples.map(({ replicaNs }) => replicaNs),
    [504_000, 700_000],
  );
  world.service.endTurn();
  t.equal(world.answer(), undefined, 'each is answered once');
  t.same([world.service.answered, world.service.refused], [2, 0]);
  t.end();
});

t.test('questions are bounded, and no answer is longer than its question', (t) => {
  const world = new World();
  const question = world.ask();
  t.ok(validate(question, 0, question.length) > 0);
  world.arrives(question);
  world.service.endTurn();
  t.equal(world.answer()!.length, question.length);
  const short = question.slice(0, -1);
  writeU16(short, AskTimes.at.padding, short.length - AskTimes.size);
  world.arrives(short);
  world.service.endTurn();
  t.equal(world.answer(), undefined, 'a shorter one');
  t.equal(world.service.refused, 1);

  const flooded = new World();
  for (let i = 0; i < 1_000; i++) flooded.arrives(flooded.ask());
  flooded.service.endTurn();
  t.equal(flooded.service.answered, TIMES_RATES.endpoint.burst, 'one endpoint');
  const unproven = new World();
  for (let i = 0; i < 1_000; i++) unproven.arrives(unproven.ask(), false, i);
  unproven.service.endTurn();
  t.equal(unproven.service.answered, TIMES_RATES.unproven.burst, 'recordings');

  const stuck = new World();
  stuck.awaited = 1;
  for (let i = 0; i < WAITING_MAX + 50; i++) {
    stuck.pass(1e6);
    stuck.service.onAskTimes(stuck.ask(), 0, CLIENT + i, stuck.replicaNow(), i, true);
    stuck.service.endTurn();
  }
  t.equal(stuck.service.refused, 50, 'a disk that does not write');
  stuck.durable = 1;
  stuck.service.endTurn();
  t.equal(stuck.service.answered, WAITING_MAX);
  t.end();
});

t.test('answers that are strange, late or repeated count for nothing', (t) => {
  const world = new World();
  const question = world.ask();
  world.arrives(question);
  world.service.endTurn();
  const answer = world.answer()!;
  world.comesBack(answer, REPLICA + 1);
  const forged = answer.slice();
  forged[Times.at.nonce + 3]! ^= 1;
  world.comesBack(forged);
  t.equal(world.samples.length, 0, 'from another replica, or to another process');
  world.comesBack(answer);
  world.comesBack(answer);
  t.equal(world.samples.length, 1, 'twice');
  const late = world.ask();
  world.arrives(late);
  world.service.endTurn();
  const lateAnswer = world.answer()!;
  for (let i = 0; i < 64; i++) world.ask();
  world.comesBack(lateAnswer);
  t.equal(world.samples.length, 1, 'after 64 further questions');
  t.equal(world.asked.length, 66);
  t.end();
});
