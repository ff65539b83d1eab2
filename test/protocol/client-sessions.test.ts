// The sessions of one client, one after the other, on the cores: what is worn is followed, what is lost is replaced.
import t from 'tap';
import { ClientSessions } from '../../src/protocol/client/client-sessions.js';
import { CounterMachine } from '../../src/machine/counter.js';
import { ClientCore } from '../../src/protocol/client/client-core.js';
import { DEFAULT_CLIENT_TIMINGS } from '../../src/protocol/config.js';
import { Outcome } from '../../src/protocol/contract.js';
import { ClientCounter } from '../../src/protocol/counters.js';
import { REGISTER_LANE } from '../../src/protocol/log/sessions.js';
import { Plea, Probe, Reject, RejectReason, Reply, ReplyStatus, Request } from '../../src/wire/messages.js';
import { Cluster, encode, HandOutbox, type Packet, type TestClient } from '../protocol/harness.js';

const LANES = 3;
const ONE = new Uint8Array([0, 0, 0, 0, 0, 0, 0, 1]);

class Host {
  readonly endpoint: number;
  readonly sessions: ClientSessions;
  readonly said: string[] = [];
  /** [lane, outcome, counter's value] of what ended. */
  readonly ended: [number, number, number][] = [];
  /** Called with each end. */
  again: (lane: number) => void = () => undefined;
  private drawn = 0;

  constructor(
    readonly c: Cluster,
    requestsPerLane: number,
    registers = true,
  ) {
    this.endpoint = c.hand().endpoint;
    const outbox = new HandOutbox((to, bytes) => c.post(this.endpoint, to, bytes));
    this.sessions = new ClientSessions(
      LANES,
      (events, earlier) => {
        const lo = 0x1000 * this.endpoint + 2 * ++this.drawn + 1;
        return new ClientCore(
          {
            replicas: 3,
            lanes: LANES,
            seed: lo,
            sessionHi: 0,
            sessionLo: lo,
            nonceHi: 0,
            nonceLo: lo,
            limits: { operationBytes: 2048, resultBytes: 2048 },
            timings: DEFAULT_CLIENT_TIMINGS,
            requestsPerLane,
            ...earlier?.succession(),
          },
          outbox,
          events,
        );
      },
      {
        completed: (lane, outcome) => {
          const { sessions } = this;
          const value =
            sessions.resultLength(lane) === 0
              ? 0
              : Number(
                  new DataView(sessions.resultBytes(lane).buffer, sessions.resultBytes(lane).byteOffset).getBigInt64(0),
                );
          this.ended.push([lane, outcome, outcome === Outcome.committed ? value : 0]);
          this.again(lane);
        },
        ready: () => this.said.push('ready'),
        refusedLanes: () => this.said.push('refused lanes'),
        lost: (core) => this.said.push(`lost ${core.sessionLo & 0xfff}`),
        refused: (core, inARow) => this.said.push(`refused ${core.sessionLo & 0xfff}, ${inARow} in a row`),
        renewed: (from, to) => this.said.push(`${from.sessionLo & 0xfff} renewed by ${to.sessionLo & 0xfff}`),
      },
    );
    const core = {
      receive: (bytes: Uint8Array, offset: number, length: number, from: number) => {
        this.sessions.receive(bytes, offset, length, from, c.now);
        this.sessions.endTurn(c.now);
      },
      tick: () => {
        this.sessions.tick(c.now);
        this.sessions.endTurn(c.now);
      },
    };
    c.clients.push({ endpoint: this.endpoint, core } as unknown as TestClient);
    this.sessions.register(c.now);
    if (!registers) return;
    c.run(3_000);
    if (!this.sessions.ready) throw new Error('not registered');
  }

  get drawnSessions(): number {
    return this.drawn;
  }

  submit(lane: number): void {
    this.sessions.submit(lane, ONE, 0, ONE.length, Infinity, this.c.now);
    this.sessions.endTurn(this.c.now);
  }

  read(lane: number): void {
    this.sessions.read(lane, new Uint8Array(0), 0, 0, Infinity, this.c.now);
    this.sessions.endTurn(this.c.now);
  }

  receive(message: typeof Reject | typeof Reply, values: Record<string, bigint | number>, from: number): void {
    const bytes = encode(message, values);
    this.sessions.receive(bytes, 0, bytes.length, from, this.c.now);
    this.sessions.endTurn(this.c.now);
  }

  /** Operations on the lane, one after the other. */
  run(lane: number, times: number): void {
    for (let i = 0; i < times; i++) {
      this.submit(lane);
      this.c.run(1_000);
    }
  }
}

/** Requests of a lane are lost, and so are the words of a client that nobody hears it: the view is to stay. */
const losesLane =
  (lane: number) =>
  ({ to, values, message }: Packet): boolean =>
    to < 3 &&
    ((message.type === Request.type && values['lane'] === lane) ||
      message.type === Plea.type ||
      message.type === Probe.type);
const losesRegisters = losesLane(REGISTER_LANE);

const cluster = (): Cluster => new Cluster(3, { late: 'restamp', machine: () => new CounterMachine() });

t.test(
  'a lane that runs out of numbers goes on in another session, again and again, and every operation is executed once',
  (t) => {
    const c = cluster();
    const host = new Host(c, 16);
    host.again = (lane) => host.ended.length < 600 && host.submit(lane); // from within the completion, as a slot client does
    for (let lane = 0; lane < LANES; lane++) host.submit(lane);
    for (let i = 0; i < 400 && host.ended.length < 600; i++) c.run(1_000);
    c.run(10_000);
    t.ok(host.ended.length >= 600);
    t.ok(
      host.ended.every(([, outcome]) => outcome === Outcome.committed),
      'none is lost',
    );
    t.strictSame(
      host.ended.map(([, , sum]) => sum).sort((a, b) => a - b),
      Array.from({ length: host.ended.length }, (_, i) => i + 1),
      'each once',
    );
    t.ok(host.drawnSessions >= 10, `${host.drawnSessions} sessions`);
    t.equal(host.said.filter((what) => what === 'ready').length, 1, 'lanes were ready all the time');
    t.ok(host.said.every((what) => !what.startsWith('lost')));
    t.equal(host.sessions.counters()[ClientCounter.submitted], host.ended.length, 'counters go on');
    t.end();
  },
);

t.test('reads through the log take two numbers, and wear a lane as well', (t) => {
  const c = cluster();
  const host = new Host(c, 16);
  for (let i = 0; i < 40; i++) {
    host.read(0);
    c.lose({ to: 1 }); // a silent member makes it a request
    for (let ms = 0; ms < 300 && !host.sessions.isIdle(0); ms++) c.run(1_000);
  }
  t.ok(host.ended.length === 40 && host.ended.every(([, outcome]) => outcome === Outcome.committed));
  t.ok(host.drawnSessions >= 3);
  t.end();
});

t.test('what is open ends in the old session, while the new one serves', (t) => {
  const c = cluster();
  const host = new Host(c, 16);
  const [old] = [host.sessions.core];
  c.loses = losesLane(1);
  host.submit(1);
  host.run(0, 14); // seven eighths of sixteen
  c.run(3_000);
  t.strictSame(host.said, ['ready', '3 renewed by 5']);
  t.not(host.sessions.core, old);
  t.equal(host.sessions.isIdle(1), false);
  t.equal(old.openLanes, 1);
  host.run(0, 15);
  host.run(2, 3);
  t.ok(host.sessions.core.worn);
  t.equal(host.drawnSessions, 2, 'a third one waits until nothing is open in the first');
  t.throws(() => host.submit(1), { message: /idle lane/ });
  const before = host.ended.length;
  c.loses = () => false;
  c.run(30_000);
  t.equal(host.ended.length, before + 1);
  t.strictSame(host.ended.at(-1)!.slice(0, 2), [1, Outcome.committed]);
  t.equal(host.sessions.isIdle(1), true);
  t.equal(
    Number(Buffer.from(host.sessions.resultBytes(1)).readBigInt64BE(0)),
    host.ended.at(-1)![2],
    'the result is there until the next submit',
  );
  host.run(1, 2);
  t.strictSame(
    host.ended.slice(-2).map(([, outcome]) => outcome),
    [Outcome.committed, Outcome.committed],
  );
  c.run(10_000);
  t.equal(host.drawnSessions, 3);
  t.end();
});

t.test('a successor that is refused is tried again, after a pause, and the old one serves meanwhile', (t) => {
  const c = cluster();
  const host = new Host(c, 64);
  c.loses = losesRegisters;
  host.run(0, 56);
  t.equal(host.drawnSessions, 2);
  for (const status of [ReplyStatus.sessionTaken, ReplyStatus.badRequest]) {
    for (const from of [0, 1])
      host.receive(
        Reply,
        {
          session: BigInt(0x1000 * host.endpoint + 2 * host.drawnSessions + 1),
          lane: REGISTER_LANE,
          request: 1,
          index: 99n,
          chain: 1n,
          status,
        },
        from,
      );
    c.pass(1_000);
  }
  t.equal(host.drawnSessions, 4);
  host.run(0, 2);
  c.loses = () => false;
  c.run(100_000);
  t.strictSame(host.said, ['ready', '3 renewed by 9']);
  t.ok(host.ended.every(([, outcome]) => outcome === Outcome.committed));
  t.end();
});

t.test('a session that no other follows in time ends as a lost one does, and no number comes twice', (t) => {
  const c = cluster();
  const host = new Host(c, 16);
  c.loses = losesRegisters;
  host.run(0, 16);
  t.ok(host.ended.every(([, outcome]) => outcome === Outcome.committed));
  host.submit(1);
  host.submit(0);
  c.loses = () => false;
  c.lose();
  c.run(300_000);
  t.strictSame(
    host.ended
      .slice(16)
      .map(([lane, outcome]) => [lane, outcome])
      .sort(),
    [
      [0, Outcome.sessionLost],
      [1, Outcome.sessionLost],
    ],
  );
  t.strictSame(host.said, ['ready', 'lost 3', 'ready']);
  host.run(0, 3);
  t.ok(host.ended.slice(-3).every(([, outcome]) => outcome === Outcome.committed));
  t.end();
});

t.test('a session that was never given is refused, not lost, and it is said how often in a row', (t) => {
  const c = cluster();
  c.loses = losesRegisters;
  const host = new Host(c, 64, false);
  for (let i = 1; i <= 3; i++) {
    c.run(20_000);
    for (const from of [0, 1])
      host.receive(
        Reply,
        {
          session: BigInt(0x1000 * host.endpoint + 2 * i + 1),
          lane: REGISTER_LANE,
          request: 1,
          index: 99n,
          chain: 1n,
          status: ReplyStatus.sessionTaken,
        },
        from,
      );
    c.pass(1_000);
    t.equal(host.sessions.refused, i);
  }
  c.loses = () => false;
  c.run(100_000);
  t.strictSame(host.said, ['refused 3, 1 in a row', 'refused 5, 2 in a row', 'refused 7, 3 in a row', 'ready']);
  t.equal(host.sessions.refused, 0);
  t.end();
});

t.test('a session that is lost while its successor registers is replaced by that', (t) => {
  const c = cluster();
  const host = new Host(c, 16);
  c.loses = losesRegisters;
  host.run(0, 14);
  t.equal(host.drawnSessions, 2);
  host.submit(2);
  const [sent] = c.take({ from: host.endpoint, message: Request });
  host.receive(
    Reject,
    {
      session: sent!.values['session'] as bigint,
      lane: 2,
      request: 1,
      reason: RejectReason.sessionUnknown,
      timestamp: sent!.values['timestamp'] as bigint,
    },
    0,
  );
  c.pass(1_000);
  t.equal(host.sessions.ready, false);
  c.loses = () => false;
  c.run(300_000);
  t.strictSame(host.said, ['ready', 'lost 3', 'ready']);
  t.equal(host.drawnSessions, 2);
  t.strictSame(host.ended.at(-1)!.slice(0, 2), [2, Outcome.sessionLost]);
  host.run(2, 1);
  t.strictSame(host.ended.at(-1)!.slice(0, 2), [2, Outcome.committed]);
  t.end();
});
