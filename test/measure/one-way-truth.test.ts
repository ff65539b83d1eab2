// One-way delays against the truth: real datagrams over a relay with a known delay, between clocks that are apart by a
// known distance. Nothing is asserted about how long anything takes, only that what is reported contains it.
import { fork } from 'node:child_process';
import { createSocket, type Socket } from 'node:dgram';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import t, { type Test } from 'tap';
import { TimeQuestions } from '../../src/client/time-questions.js';
import { openClock } from '../../src/clock/open.js';
import type { OneWayFigures } from '../../src/measure/oneway/figures.js';
import { OneWayRecorder } from '../../src/measure/oneway/second.js';
import { OneWayTally } from '../../src/measure/oneway/tally.js';
import { Histogram } from '../../src/metrics/histogram.js';
import { loadHash } from '../../src/native/hash64.js';
import { Instant } from '../../src/protocol/contract.js';
import { TimesService } from '../../src/server/times-service.js';
import { typeOf, Times, validate } from '../../src/wire/messages.js';
import { TestOutbox } from '../server/watching.js';
import type { Passed } from './delay-relay.js';

const DELAY_NS = 100_000;
const INTERVALS = 20;
const ANSWERS = 15;
const REPLICA = 1;
/** A histogram's buckets are this wide at most. */
const WIDTH = 1 / 64;
const clock = openClock('realtime');

function instantOf(ns: bigint): Instant {
  const now = new Instant();
  now.wallHi = Number(BigInt.asIntN(32, ns >> 32n));
  now.wallLo = Number(BigInt.asIntN(32, ns));
  now.monotonicUs = performance.now() * 1000;
  return now;
}

interface Ends {
  /** Its clock minus the true one, and what it states, ns. */
  readonly clientOffNs: number;
  readonly clientErrorNs: number;
  readonly replicaOffNs: number;
  readonly replicaErrorNs: number;
}

/** One second of a bench, and the truth about it. */
interface Interval {
  readonly figures: OneWayFigures;
  readonly request: Histogram;
  readonly reply: Histogram;
}

async function bound(socket: Socket): Promise<number> {
  socket.bind(0, '127.0.0.1');
  await once(socket, 'listening');
  return socket.address().port;
}

async function measure(
  t: Test,
  { clientOffNs, clientErrorNs, replicaOffNs, replicaErrorNs }: Ends,
  backNs = DELAY_NS,
): Promise<{ intervals: Interval[]; passed: Passed[] }> {
  const replica = createSocket('udp4');
  const client = createSocket('udp4');
  const replicaPort = await bound(replica);
  await bound(client);
  const relay = fork(
    fileURLToPath(new URL('delay-relay.js', import.meta.url)),
    [replicaPort, DELAY_NS, backNs].map(String),
    { stdio: ['ignore', 'inherit', 'inherit', 'ipc'], execArgv: [] },
  );
  t.teardown(() => {
    relay.kill();
    replica.close();
    client.close();
  });
  const passed: Passed[] = [];
  const relayPort = await new Promise<number>((resolve) =>
    relay.on('message', (message: { port: number } | Passed) => {
      if ('port' in message) resolve(message.port);
      else passed.push(message);
    }),
  );

  // The truth: the same clock on both ends, in the same moments.
  let truth = { sent: 0n, received: 0n, answered: 0n, came: 0n };
  let clientPort = 0;
  let endpoint = 0;
  const apart = (offNs: number): bigint => BigInt(offNs);
  const service = new TimesService(
    {
      view: () => 1,
      awaited: () => 0,
      isDurable: () => true,
      clock: {
        source: 'phc:/dev/ptp0',
        epoch: 'utc',
        quality: { errorNs: replicaErrorNs },
        writeHalves: (out, index) => {
          truth.answered = clock.nowBigInt();
          const now = instantOf(truth.answered + apart(replicaOffNs));
          out[index] = now.wallHi;
          out[index + 1] = now.wallLo;
        },
      },
    },
    new TestOutbox(({ bytes }) => replica.send(bytes, clientPort, '127.0.0.1')),
    loadHash(),
  );
  replica.on('message', (bytes, { port }) => {
    truth.received = clock.nowBigInt();
    if (validate(bytes, 0, bytes.length) < 0) return;
    clientPort = port;
    endpoint++; // each question has a rate of its own
    service.onAskTimes(bytes, 0, endpoint, instantOf(truth.received + apart(replicaOffNs)), endpoint, true);
    service.endTurn();
  });

  const recorder = new OneWayRecorder();
  const questions = new TimeQuestions(
    new TestOutbox(({ bytes }) => client.send(bytes, relayPort, '127.0.0.1')),
    9,
    () => ({ epoch: 'utc', errorNs: clientErrorNs, digest: new Uint8Array(8) }),
    recorder,
  );
  const intervals: Interval[] = [];
  for (let second = 0; second < INTERVALS; second++) {
    const [request, reply] = [new Histogram(), new Histogram()];
    for (let asked = 0; asked < ANSWERS; asked++) {
      const answer = once(client, 'message') as Promise<[Buffer]>;
      truth = { sent: clock.nowBigInt(), received: 0n, answered: 0n, came: 0n };
      questions.ask([REPLICA], instantOf(truth.sent + apart(clientOffNs)));
      client.once('message', () => (truth.came = clock.nowBigInt()));
      const [bytes] = await answer;
      if (typeOf(bytes, 0) !== Times.type) throw new Error('a strange answer');
      questions.onTimes(bytes, 0, REPLICA, instantOf(truth.came + apart(clientOffNs)));
      request.record(Number(truth.received - truth.sent));
      reply.record(Number(truth.came - truth.answered));
    }
    const tally = new OneWayTally(1);
    tally.add(0, { second, fromMs: 0, toMs: 0, tags: {}, oneWay: recorder.take() });
    intervals.push({ figures: tally.report(0)!.intervals[0]!.replicas[0]!, request, reply });
  }
  t.equal(service.refused, 0);
  return { intervals, passed };
}

/** Every figure of an interval, with what it should be. */
function comparedTo({ figures, request, reply }: Interval): [name: string, measuredNs: number, trueNs: number][] {
  return (
    [
      ['request', figures.requestNs!, request.summary()],
      ['reply', figures.replyNs!, reply.summary()],
    ] as const
  ).flatMap(([way, measured, truth]) =>
    (['min', 'p50', 'p99', 'max'] as const).map((name): [string, number, number] => [
      `${way} ${name}`,
      measured[name]!,
      truth[name]!,
    ]),
  );
}

t.test('100 µs each way, clocks 50 µs apart: the truth is within the stated bound in every interval', async (t) => {
  const ends: Ends = { clientOffNs: -20_000, clientErrorNs: 25_000, replicaOffNs: 30_000, replicaErrorNs: 35_000 };
  const { intervals, passed } = await measure(t, ends);
  let figures = 0;
  let farthestNs = 0;
  for (const [index, interval] of intervals.entries()) {
    t.equal(interval.figures.says, null, `interval ${index} is told apart`);
    t.equal(interval.figures.boundNs, 60_000);
    for (const [name, measuredNs, trueNs] of comparedTo(interval)) {
      const errorNs = Math.abs(measuredNs - trueNs);
      t.ok(
        errorNs <= 60_000 + WIDTH * Math.max(measuredNs, trueNs),
        `interval ${index}, ${name}: ${measuredNs} ns, in truth ${trueNs} ns`,
      );
      if (name.endsWith('min')) farthestNs = Math.max(farthestNs, errorNs);
      figures++;
    }
    // The relay's own times: the way is at least as long as it held a datagram.
    t.ok(Math.min(interval.request.min, interval.reply.min) >= DELAY_NS, 'not shorter than the delay of the relay');
  }
  const heldNs = passed.map(({ cameNs, wentNs }) => Number(BigInt(wentNs) - BigInt(cameNs))).sort((a, b) => a - b);
  t.ok(heldNs[0]! >= DELAY_NS);
  t.comment(
    `${figures} figures of ${INTERVALS} intervals; the relay held datagrams for ${heldNs[0]} to ${heldNs.at(-1)} ns, half of them up to ${heldNs[heldNs.length >> 1]} ns; minima were off by up to ${farthestNs} ns, bound 60000 ns`,
  );
});

t.test('a bound that is too small is found wrong: the check can fail', async (t) => {
  const ends: Ends = { clientOffNs: -20_000, clientErrorNs: 5_000, replicaOffNs: 30_000, replicaErrorNs: 35_000 };
  const { intervals } = await measure(t, ends);
  for (const interval of intervals)
    for (const [name, measuredNs, trueNs] of comparedTo(interval))
      if (name.endsWith('min')) t.ok(Math.abs(measuredNs - trueNs) > 40_000, `${name} is outside`);
});

t.test('clocks that are further apart than a way is long are found out, without knowing the truth', async (t) => {
  const ends: Ends = { clientOffNs: 0, clientErrorNs: 5_000, replicaOffNs: -10e9, replicaErrorNs: 5_000 };
  const { intervals } = await measure(t, ends);
  for (const { figures } of intervals) {
    t.match(figures.says, /^the clocks are at least .* further apart than the ±10\.0 µs that they state$/);
    t.same([figures.requestNs, figures.replyNs], [null, null]);
  }
});

t.test('a way back that is longer by more than the clocks allow is called longer, by less than it is', async (t) => {
  const backNs = 20e6;
  const ends: Ends = { clientOffNs: -20_000, clientErrorNs: 25_000, replicaOffNs: 30_000, replicaErrorNs: 35_000 };
  const { intervals } = await measure(t, ends, backNs);
  const told = intervals.filter(({ figures }) => figures.longerRequestNs !== null);
  for (const { figures, request, reply } of told) {
    const trueNs = reply.quantile(0.5) - request.quantile(0.5);
    t.ok(figures.longerRequestNs! < 0 === trueNs > 0, 'the way that is longer');
    t.ok(-figures.longerRequestNs! - 2 * figures.boundNs! <= trueNs + WIDTH * reply.quantile(0.5), 'by at least that');
  }
  t.ok(told.length > 0, `${told.length} of ${intervals.length} intervals`);
});
