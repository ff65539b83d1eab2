/**
 * A malicious client that holds a key: it sends anything well-formed, under its key, to any replica at any time, and
 * replays its own datagrams. It knows the protocol: it learns the view, ends of logs, chains and sessions from what it
 * hears, so much of what it sends is nearly right. It may not forge others' datagrams, or touch keys by which the
 * others' history is judged.
 *
 * Where the world says so it does one thing only: it sends each request to one replica, and to the others later or never.
 */
import { encodeDelete, encodeIncrement, encodePut } from '../machine/kv-codec.js';
import { Instant } from '../protocol/contract.js';
import { ownedSessionLo } from '../protocol/log/session-owner.js';
import { REGISTER_BYTES, REGISTER_LANE } from '../protocol/log/sessions.js';
import { begin, type Layout } from '../wire/layout.js';
import {
  layoutOf,
  Plea,
  Probe,
  ProbeReply,
  Read,
  Reconcile,
  Reject,
  Reply,
  Request,
  RequestFlag,
  typeOf,
} from '../wire/messages.js';
import { addHi, addLo, readI32, readIndex, writeI32, writeIndex, writeU16 } from '../wire/u64.js';
import type { SimulatedClock } from './clock.js';
import type { EventHandler, EventQueue } from './event-queue.js';
import type { Datagram, Network } from './network.js';
import { SimulatedOutbox } from './outbox.js';
import type { Random } from './random.js';
import type { WireEnd } from './wire-end.js';
import type { AheadPlan, EnemyPlan } from './world.js';

export interface EnemySurroundings {
  readonly queue: EventQueue;
  readonly network: Network;
  readonly random: Random;
  readonly clock: SimulatedClock;
  readonly wire: WireEnd;
  readonly replicas: number;
  /** Who leads a view, and its quorum in ascending order: it knows what everybody may know. */
  readonly views: { primary(view: number): number; membersOf(view: number): number[] };
  readonly plan: EnemyPlan;
  readonly ahead: AheadPlan | undefined;
  readonly operationBytes: number;
  readonly datagramBytes: number;
  readonly lanesPerSession: number;
  /** Session ids of honest clients: it may have seen them on the network. */
  sessions(): readonly (readonly [number, number])[];
  sent(endpoint: number, to: number, bytes: Uint8Array, offset: number, length: number): void;
}

/** Most items of each kind that it remembers. */
const REMEMBERED_MAX = 32;
/** Sessions that it registers at once when it hoards. */
const HOARDED = 32;
/** What it sends as noise begins with this, which no operation of the machine does (kv-codec.ts, store/layout.ts). */
export const NOISE = 0xee;
const MAX_AHEAD_NS = 100_000_000;
const encoder = new TextEncoder();

interface LateRequest {
  readonly targets: readonly number[];
  readonly fields: { readonly [field: string]: number | readonly [number, number] };
  readonly operation: Uint8Array;
}

interface Session {
  readonly hi: number;
  readonly lo: number;
  readonly lanes: number;
  request: number;
}

export class Enemy implements EventHandler {
  readonly outbox: SimulatedOutbox;
  messages = 0;
  private readonly now = new Instant();
  private readonly own: Session[] = [];
  private readonly recorded: Uint8Array[] = [];
  /** Ends of logs that it has heard of: index, chain. */
  private readonly heard: (readonly [number, number, number])[] = [];
  private readonly operation = new Uint8Array(1024);
  private view = 0;
  private after = false;
  private stopped = false;

  constructor(
    readonly endpoint: number,
    private readonly around: EnemySurroundings,
  ) {
    const observe = (to: number, bytes: Uint8Array, offset: number, length: number): void => {
      this.messages++;
      this.remember(this.recorded, bytes.slice(offset, offset + length));
      around.sent(endpoint, to, bytes, offset, length);
    };
    this.outbox = new SimulatedOutbox(endpoint, around.wire, around.network, observe, around.datagramBytes);
  }

  start(): void {
    const { clock, queue, wire } = this.around;
    clock.read(queue.nowUs, this.now);
    wire.start(this.now);
    this.next();
  }

  /** It continues, at another rate. */
  faultsEnd(): void {
    this.after = true;
  }

  stop(): void {
    this.stopped = true;
  }

  arrive(datagram: Datagram): void {
    const { wire, network } = this.around;
    wire.read(
      datagram.bytes,
      datagram.length,
      datagram.from,
      (bytes, o) => this.learn(bytes, o),
      () => undefined,
      (to, message, o) => this.outbox.prove(to, message, o),
    );
    network.release(datagram);
  }

  /** @param late a request for the other members, if that is what was scheduled */
  handle(_kind: number, late: unknown): void {
    if (this.stopped) return;
    const { random, queue, clock } = this.around;
    clock.read(queue.nowUs, this.now);
    if (late !== undefined) {
      this.sendLate(late as LateRequest);
      return;
    }
    // Several at once arrive in one turn.
    for (let count = random.chance(0.2) ? random.between(2, 6) : 1; count > 0; count--) this.act();
    this.outbox.flush();
    this.next();
  }

  private next(): void {
    const { plan, random, queue } = this.around;
    const rate = this.after ? plan.rateAfter : plan.rate;
    if (rate > 0) queue.schedule(queue.nowUs + random.exponential(1e6 / rate), this, 0, undefined);
  }

  private learn(bytes: Uint8Array, o: number): void {
    switch (typeOf(bytes, o)) {
      case Reply.type:
        this.view = readI32(bytes, o + Reply.at.view);
        this.remember(this.heard, [
          readIndex(bytes, o + Reply.at.index),
          readI32(bytes, o + Reply.at.chain),
          readI32(bytes, o + Reply.at.chain + 4),
        ]);
        return;
      case Reject.type:
        this.view = readI32(bytes, o + Reject.at.view);
        return;
      case ProbeReply.type:
        this.view = Math.max(this.view, readI32(bytes, o + ProbeReply.at.view));
    }
  }

  private remember<T>(list: T[], item: T): void {
    if (list.length < REMEMBERED_MAX) list.push(item);
    else list[this.around.random.below(REMEMBERED_MAX)] = item;
  }

  private act(): void {
    const { random } = this.around;
    if (this.around.ahead !== undefined) {
      this.goAhead(this.around.ahead);
      return;
    }
    if (this.around.plan.hoards === true) {
      this.hoard();
      return;
    }
    const draw = random.below(20);
    if (draw < 3) this.register();
    else if (draw < 10) this.request();
    else if (draw < 12) this.send(Read, this.targets());
    else if (draw < 15) this.send(Reconcile, this.targets());
    else if (draw < 17) this.send(Plea, this.targets());
    else if (draw < 18) this.send(Probe, this.targets());
    else this.replay();
  }

  /** Registers sessions of all lanes that there may be, in time and with all: enough to fill the table. */
  private hoard(): void {
    const { replicas } = this.around;
    const { wallHi, wallLo } = this.now;
    const everybody = Array.from({ length: replicas }, (_, replica) => replica);
    for (let i = 0; i < HOARDED; i++) this.register(everybody, [addHi(wallHi, wallLo, i), addLo(wallLo, i)]);
  }

  /** Sends a request to one replica, and to the others later or never. Now and then it registers, in time and with all. */
  private goAhead({ role, aheadNs, laterUs }: AheadPlan): void {
    const { random, replicas } = this.around;
    const { wallHi, wallLo } = this.now;
    const everybody = Array.from({ length: replicas }, (_, replica) => replica);
    if (this.own.length === 0 || random.chance(0.02)) {
      this.register(everybody, [wallHi, wallLo]);
      return;
    }
    const { views } = this.around;
    const primary = views.primary(this.view);
    const members = views.membersOf(this.view).filter((replica) => replica !== primary);
    const target =
      role === 'primary' ? primary : random.pick(role === 'member' && members.length > 0 ? members : everybody);
    const session = random.pick(this.own);
    const fields = {
      view: this.view,
      session: [session.hi, session.lo],
      lane: random.below(session.lanes),
      request: ++session.request,
      flags: random.pick([0, RequestFlag.query]),
      timestamp: [addHi(wallHi, wallLo, aheadNs), addLo(wallLo, aheadNs)],
    } as const;
    const length = this.writeOperation();
    this.write(Request, target, fields, length);
    if (laterUs === 0) return;
    const late: LateRequest = {
      targets: views.membersOf(this.view).filter((replica) => replica !== target),
      fields,
      operation: this.operation.slice(0, length),
    };
    this.around.queue.schedule(this.around.queue.nowUs + laterUs, this, 0, late);
  }

  private sendLate({ targets, fields, operation }: LateRequest): void {
    this.operation.set(operation);
    for (const target of targets) this.write(Request, target, fields, operation.length);
    this.outbox.flush();
  }

  /** One replica, some, or all. */
  private targets(): number[] {
    const { random, replicas } = this.around;
    if (random.chance(0.5)) return [random.below(replicas)];
    return Array.from({ length: replicas }, (_, replica) => replica).filter(() => random.chance(0.7));
  }

  private register(targets = this.targets(), at?: readonly [number, number]): void {
    const { random, lanesPerSession } = this.around;
    const session = {
      hi: random.next(),
      lo: random.chance(0.8) ? ownedSessionLo(random.next(), this.endpoint) : random.next() | 1,
      lanes: random.chance(0.5) ? lanesPerSession : random.between(1, lanesPerSession),
      request: 1,
    };
    this.remember(this.own, session);
    const [hi, lo] = at ?? this.timestamp();
    const [bornHi, bornLo] = at ?? (random.chance(0.5) ? [hi, lo] : this.timestamp());
    const { operation } = this;
    writeI32(operation, 0, random.chance(0.9) ? this.endpoint : random.next());
    writeI32(operation, 4, random.next());
    writeU16(operation, 8, session.lanes);
    writeI32(operation, 10, bornHi);
    writeI32(operation, 14, bornLo);
    for (const to of targets)
      this.write(
        Request,
        to,
        {
          session: [session.hi, session.lo],
          lane: REGISTER_LANE,
          request: 1,
          flags: RequestFlag.register,
          timestamp: [hi, lo],
        },
        REGISTER_BYTES,
      );
  }

  private request(): void {
    const { random } = this.around;
    const targets = this.targets();
    const session = this.own.length > 0 && random.chance(0.9) ? random.pick(this.own) : undefined;
    const [hi, lo] = session === undefined ? this.someSession() : [session.hi, session.lo];
    const request =
      session === undefined || random.chance(0.2)
        ? random.pick([0, 1, 2, random.between(1, 50), 0x7fffffff, -1])
        : random.chance(0.3)
          ? session.request
          : ++session.request;
    const lane =
      session === undefined || random.chance(0.1)
        ? random.pick([0, 1, random.below(0x10000), REGISTER_LANE])
        : random.below(session.lanes);
    let [stampHi, stampLo] = this.timestamp();
    // Each replica gets its own timestamp, or its own operation, under one number: no honest client does that.
    const differs = random.chance(0.3);
    let length = this.writeOperation();
    for (const to of targets) {
      if (differs) {
        [stampHi, stampLo] = this.timestamp();
        length = this.writeOperation();
      }
      this.write(
        Request,
        to,
        {
          session: [hi, lo],
          lane,
          request,
          flags: random.pick([0, 0, RequestFlag.query, random.below(256) & ~RequestFlag.register]),
          timestamp: [stampHi, stampLo],
        },
        length,
      );
    }
  }

  /** Replays one of its earlier messages, to any replica. */
  private replay(): void {
    const { random } = this.around;
    if (this.recorded.length === 0) return;
    const message = random.pick(this.recorded);
    for (const to of this.targets()) {
      const o = this.outbox.reserve(to, message.length);
      if (o < 0) continue;
      this.outbox.bytes.set(message, o);
      this.outbox.commit(message.length);
    }
  }

  private send(message: Layout, targets: readonly number[]): void {
    const length = message.hasBytes ? this.writeOperation() : 0;
    for (const to of targets) this.write(message, to, {}, length);
  }

  /** Writes a message with these fields; the others are drawn. */
  private write(
    message: Layout,
    to: number,
    given: { readonly [field: string]: number | readonly [number, number] },
    length: number,
  ): void {
    const o = this.outbox.reserve(to, message.size + length);
    if (o < 0) return;
    const { bytes } = this.outbox;
    const { fields, at } = layoutOf(message.type)!;
    begin(message, bytes, o);
    for (const [field, kind] of Object.entries(fields)) {
      const value = given[field] ?? this.draw(field);
      const offset = o + at[field]!;
      if (kind === 'bin16') writeU16(bytes, offset, length);
      else if (kind === 'u8') bytes[offset] = value as number;
      else if (kind === 'u16') writeU16(bytes, offset, value as number);
      else if (typeof value === 'number' && kind === 'u64') writeIndex(bytes, offset, value);
      else if (typeof value === 'number') writeI32(bytes, offset, value);
      else {
        writeI32(bytes, offset, value[0]);
        writeI32(bytes, offset + 4, value[1]);
      }
    }
    for (let i = 0; i < length; i++) bytes[o + message.size + i] = this.operation[i]!;
    this.outbox.commit(message.size + length);
  }

  private draw(field: string): number | readonly [number, number] {
    const { random } = this.around;
    switch (field) {
      case 'view':
        return random.chance(0.85)
          ? this.view
          : random.pick([this.view + 1, Math.max(0, this.view - 1), this.view + random.below(100), 0x7fffffff, -1]);
      case 'session':
        return this.own.length > 0 && random.chance(0.6)
          ? [random.pick(this.own).hi, random.pick(this.own).lo]
          : this.someSession();
      case 'index':
        return this.heard.length > 0
          ? Math.max(0, random.pick(this.heard)[0] + random.pick([0, 0, 0, 1, -1, random.below(1000)]))
          : random.below(100);
      case 'chain': {
        if (this.heard.length === 0 || random.chance(0.2)) return [random.next(), random.next()];
        const [, hi, lo] = random.pick(this.heard);
        return [hi, lo];
      }
      case 'timestamp':
        return this.timestamp();
      case 'lane':
        return random.pick([0, 1, random.below(0x10000)]);
      case 'request':
        return random.pick([1, 2, random.between(1, 50), 0]);
      default:
        // Nonces, masks, flags and everything else on the wire: small numbers are the interesting ones.
        return random.chance(0.7) ? random.below(128) : random.next();
    }
  }

  private someSession(): readonly [number, number] {
    const { random } = this.around;
    const honest = this.around.sessions();
    return honest.length > 0 && random.chance(0.8) ? random.pick(honest) : [random.next(), random.next()];
  }

  /** Now, nearly now, as far ahead as is tolerated, further, long ago, or the end of time. */
  private timestamp(): [number, number] {
    const { random } = this.around;
    const { wallHi, wallLo } = this.now;
    switch (random.below(8)) {
      case 0:
        return [addHi(wallHi, wallLo, MAX_AHEAD_NS * 0.99), addLo(wallLo, MAX_AHEAD_NS * 0.99)];
      case 1:
      case 2: {
        const aheadNs = random.below(MAX_AHEAD_NS);
        return [addHi(wallHi, wallLo, aheadNs), addLo(wallLo, aheadNs)];
      }
      case 3: {
        const aheadNs = random.below(3_000_000);
        return [addHi(wallHi, wallLo, aheadNs), addLo(wallLo, aheadNs)];
      }
      case 4:
        return [wallHi - random.below(2000), wallLo];
      case 5:
        return random.pick([
          [0, 0],
          [-1, -1],
          [wallHi + random.below(2000), wallLo],
        ]);
      default:
        return [wallHi, wallLo];
    }
  }

  /** Writes an operation on its own keys, or noise. Returns its length, never above the limit. */
  private writeOperation(): number {
    const { random, operationBytes } = this.around;
    const { operation } = this;
    const key = encoder.encode(`enemy${random.below(3)}`);
    switch (random.below(5)) {
      case 0:
        return encodeIncrement(operation, 0, key, random.between(1, 3));
      case 1:
        return encodeDelete(operation, 0, key);
      case 2: {
        const length = random.chance(0.2) ? random.below(operationBytes + 1) : random.below(20);
        operation.fill(NOISE, 0, length);
        return length;
      }
      default:
        return encodePut(operation, 0, key, encoder.encode(String(random.next())));
    }
  }
}
