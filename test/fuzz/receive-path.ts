/**
 * Sends seeded datagrams through the whole receive path: envelope and keys, reader, replica cores, client core, status
 * service and status client, state machine; and through the outboxes what these answer.
 *
 * - *forged*: what a stranger can send (forger.ts). The rule: none is accepted, nothing is asked of the transport, the
 *   state of no replica, client or table of streams changes, and each is counted once.
 * - *replayed*: authentic datagrams again, later, in another order and to every receiver of their stream, their own
 *   sender included. The rule: nothing throws, no invariant breaks, what is committed stays, replicas agree on it.
 * - *client*: well-formed datagrams under a good client's key with arbitrary messages. The same rule. Some come under
 *   another key from the honest client's own address, which keeps its key.
 * - *replica*: the same under the replicas' key, as from a faulty replica or a stolen key. The protocol survives
 *   replicas that stop, not ones that lie. So an invariant may stop the replica that receives it, or a contradiction
 *   about its log or its promises (STOPS); nothing else may be thrown.
 * - *answers*: the same at a client, and at a tool that asks for status. The rule: nothing throws.
 */
import { summarize } from '../../src/cli/cluster/summary.js';
import { summaryLines } from '../../src/cli/cluster/table.js';
import { knownFeatures, loadedKeys } from '../../src/cli/doctor/cluster-checks.js';
import { encodeReport } from '../../src/host/status-codec.js';
import type { ReplicaStatusReport } from '../../src/host/status.js';
import type { Inquiry } from '../../src/client/inquiry.js';
import { FeatureUnknownError } from '../../src/protocol/log/features.js';
import { DivergedError } from '../../src/protocol/replica/diverged-error.js';
import { ForgottenError } from '../../src/protocol/replica/introduction.js';
import { InvariantError } from '../../src/protocol/invariant.js';
import { Fingerprint } from '../../src/sim/fingerprint.js';
import { Random } from '../../src/sim/random.js';
import { ENVELOPE_BYTES, type Envelope } from '../../src/wire/envelope.js';
import { PREVIOUS_WIRE_VERSION, WIRE_VERSION } from '../../src/wire/versions.js';
import { begin, type Message } from '../../src/wire/layout.js';
import * as wire from '../../src/wire/messages.js';
import { writeI32, writeU16 } from '../../src/wire/u64.js';
import { CLIENT, FuzzCluster, KEYS, REPLICAS } from './cluster.js';
import { Composer } from './composer.js';
import { Forger } from './forger.js';
import { REPORT } from './report.js';
import { statusInquiry } from './status-client.js';

/** Errors by which a core stops itself. */
const STOPS = [InvariantError, DivergedError, ForgottenError, FeatureUnknownError];

export const KINDS = ['forged', 'replayed', 'client', 'replica', 'answers'] as const;
export type Kind = (typeof KINDS)[number];

/**
 * Datagrams of one kind that are sent to one cluster before it is checked and works again; more for those that change
 * nothing.
 */
const ROUND = 1_000;
const FORGED_ROUND = 8_000;
/** A long one may come in each of these. */
const CAPACITY = 61_000;
/**
 * The rounds of one cluster, which is then replaced. In the last ones it is lied to by a replica, and then its
 * replicas need not agree any more.
 */
export const LIFE: readonly Kind[] = [
  ...(['forged', 'client', 'client', 'replayed', 'client', 'forged', 'client'] as const),
  ...(['client', 'replayed', 'client', 'forged', 'client', 'answers', 'client'] as const),
  ...(['answers', 'forged', 'replica', 'answers', 'replica', 'forged'] as const),
];

const FROM_CLIENTS: readonly Message[] = [
  wire.Request,
  wire.Request,
  wire.Request,
  wire.Read,
  wire.Reconcile,
  wire.Probe,
  wire.Plea,
  wire.Proof,
  wire.Status,
  wire.AskMembers,
  wire.Watch,
  wire.AskTimes,
];
const REPORT_BYTES = encodeReport(REPORT);

export interface FuzzCounts {
  /** By kind. */
  readonly tried: Record<Kind, number>;
  /** Errors thrown that are not broken invariants, by message; must stay empty. */
  readonly crashes: Map<string, number>;
  /**
   * Invariants broken by a message under a client's key, disagreements, changes by forged datagrams; must stay empty.
   */
  readonly violations: Map<string, number>;
  /** Invariants that stopped a replica after it heard a lying replica, by message. */
  readonly stopped: Map<string, number>;
  /** Messages of well-formed datagrams that reached a core. */
  heard: number;
  /** Of the hostile ones: datagrams of each version that were handled. */
  readonly handled: Record<number, number>;
  /** Operations that the cluster committed meanwhile. */
  committed: number;
  /** Reports that the tool took for one. */
  reports: number;
  clusters: number;
}

export class ReceivePathFuzzer {
  readonly counts: FuzzCounts = {
    tried: Object.fromEntries(KINDS.map((kind) => [kind, 0])) as Record<Kind, number>,
    crashes: new Map(),
    violations: new Map(),
    stopped: new Map(),
    heard: 0,
    handled: { [PREVIOUS_WIRE_VERSION]: 0, [WIRE_VERSION]: 0 },
    committed: 0,
    reports: 0,
    clusters: 1,
  };
  private readonly random: Random;
  private cluster: FuzzCluster;
  private rounds = 0;
  private readonly bytes = new Uint8Array(CAPACITY);
  private readonly composer: Composer;
  readonly forger: Forger;
  private readonly status: Inquiry<ReplicaStatusReport>;
  /** A replica was lied to: from here on the agreement of this cluster means nothing. */
  private poisoned = false;
  /** The client was lied to. It can have been told another key's challenge, and then its Proof is known. */
  private clientPoisoned = false;

  constructor(seed: number) {
    this.random = new Random(seed);
    this.composer = new Composer(this.random.fork('composer'), this.bytes);
    this.forger = new Forger(this.random.fork('forger'), this.bytes);
    this.status = statusInquiry(REPLICAS);
    this.cluster = new FuzzCluster(this.random.fork('cluster'));
  }

  /** Operations that were committed, and messages that were heard, until now. */
  get atWork(): { readonly committed: number; readonly heard: number } {
    const { counts, cluster } = this;
    const hosts = [...cluster.replicas, cluster.clientHost];
    return {
      committed: counts.committed + cluster.committed,
      heard: counts.heard + hosts.reduce((sum, { heard }) => sum + heard, 0),
    };
  }

  /** The next round: some thousand datagrams of one kind. */
  round(): void {
    const kind = LIFE[this.rounds++ % LIFE.length]!;
    try {
      this.cluster.work(20);
      if (kind === 'forged') this.forgedRound();
      else this.otherRound(kind);
      this.cluster.work(20);
    } catch (error) {
      this.caught(error, this.poisoned);
      this.replaceCluster();
    }
    if (this.rounds % LIFE.length === 0) this.replaceCluster();
  }

  private otherRound(kind: Exclude<Kind, 'forged'>): void {
    if (kind === 'replica') this.poisoned = true;
    if (kind === 'answers') this.clientPoisoned = true;
    for (let i = ROUND; i > 0; i--) {
      this.counts.tried[kind]++;
      switch (kind) {
        case 'client':
          this.hostile(REPLICAS);
          break;
        case 'replica':
          this.fromReplica();
          break;
        case 'replayed':
          this.replay();
          break;
        case 'answers':
          if (this.random.chance(0.1)) this.answerTool();
          else this.answer();
      }
    }
    this.cluster.settle();
    if (!this.poisoned) this.cluster.checkAgreement();
    if (kind === 'client' && !this.poisoned && !this.clientPoisoned) this.cluster.checkClientsKey();
  }

  private forgedRound(): void {
    const { cluster, forger, bytes, counts } = this;
    cluster.age();
    const before = this.stateOf();
    const drops = this.dropsOf();
    let tried = 0;
    for (let i = FORGED_ROUND; i > 0; i--) {
      const length = forger.forge(cluster);
      if (length < 0) continue;
      tried++;
      if (forger.target < REPLICAS) cluster.receive(forger.target, bytes, length);
      else cluster.tell(bytes, length);
    }
    counts.tried.forged += tried;
    if (this.stateOf() !== before) this.violated('a forged datagram changed the state of a process');
    if (this.dropsOf() - drops !== tried) this.violated('a forged datagram was not counted once');
  }

  private replaceCluster(): void {
    const { committed, heard } = this.atWork;
    this.counts.committed = committed;
    this.counts.heard = heard;
    this.counts.clusters++;
    this.cluster.close();
    this.cluster = new FuzzCluster(this.random.fork('cluster'));
    this.poisoned = false;
    this.clientPoisoned = false;
  }

  private caught(error: unknown, byReplica: boolean): void {
    const text = error instanceof Error ? error.message : String(error);
    if (!STOPS.some((stop) => error instanceof stop))
      count(
        this.counts.crashes,
        error instanceof Error && error.stack !== undefined ? error.stack.split('\n').slice(0, 4).join(' | ') : text,
      );
    else count(byReplica ? this.counts.stopped : this.counts.violations, text);
  }

  private violated(what: string): void {
    count(this.counts.violations, what);
  }

  /** Everything that a datagram could change, but for the counts of those that are dropped. */
  private stateOf(): string {
    const fingerprint = new Fingerprint();
    const { replicas, client, clientHost } = this.cluster;
    for (const { core } of replicas) fingerprint.add(core);
    fingerprint.add(client);
    for (const { peers, envelope, heard, asked } of [...replicas, clientHost]) {
      const { openedKey } = envelope;
      for (const part of [peers, heard, asked, openedKey, ...streamsOf(envelope)]) fingerprint.add(part);
    }
    return fingerprint.digest();
  }

  private dropsOf(): number {
    return [...this.cluster.replicas, this.cluster.clientHost].reduce(
      (sum, { reader }) => sum + reader.drops.reduce((a, b) => a + b, 0),
      0,
    );
  }

  private replay(): void {
    const { random, cluster, bytes } = this;
    const { bytes: recorded, to } = random.pick(cluster.corpus);
    bytes.set(recorded);
    cluster.now.monotonicUs += 1;
    if (to >= REPLICAS) cluster.tell(bytes, recorded.length);
    else {
      // Whatever address it comes from: that only matters for datagrams of clients.
      const target = random.below(REPLICAS);
      cluster.receive(target, bytes, recorded.length, random.chance(0.5) ? CLIENT : CLIENT + 9 + random.below(4));
      if (random.chance(0.5)) cluster.endTurn(target);
    }
    if (random.chance(0.05)) cluster.settle();
    if (random.chance(0.01)) cluster.work(1);
  }

  /** A replica that believes a lying one stops often: another process then takes its place. */
  private fromReplica(): void {
    const { random } = this;
    const from = random.below(REPLICAS);
    try {
      this.hostile(from);
    } catch (error) {
      this.caught(error, true);
      if (!STOPS.some((stop) => error instanceof stop) || !this.restart()) {
        this.replaceCluster();
        this.cluster.work(20);
        this.poisoned = true;
      }
    }
  }

  private lastTarget = 0;

  private restart(): boolean {
    try {
      return this.cluster.restart(this.lastTarget);
    } catch (error) {
      this.caught(error, true);
      return false;
    }
  }

  /** A good tag or MAC, and anything after it, from a replica, or, if REPLICAS, from a client. */
  private hostile(from: number): void {
    const { random, cluster, bytes, counts } = this;
    const target = from < REPLICAS ? (from + 1 + random.below(REPLICAS - 1)) % REPLICAS : random.below(REPLICAS);
    this.lastTarget = target;
    const reads = from === REPLICAS && random.chance(0.2);
    const version = this.version();
    const who = reads
      ? cluster.reader
      : (version < WIRE_VERSION && random.chance(0.5) ? cluster.oldSpeakers : cluster.speakers)[from]!;
    let length = ENVELOPE_BYTES;
    if (version < PREVIOUS_WIRE_VERSION) bytes.fill(0, 0, length);
    else {
      const owner = from < REPLICAS ? 0 : reads ? KEYS[2].id : KEYS[1].id;
      const messages = from < REPLICAS ? wire.ALL_MESSAGES : FROM_CLIENTS;
      length = this.composer.compose(cluster, who.envelope.bytesIn(version), version, target, messages, owner);
    }
    // Each key has endpoints of its own, and sometimes speaks from one of another key. Some share a place in the tables.
    const own = random.chance(0.1) ? random.below(8) : random.below(4) + (reads ? 4 : 0);
    const endpoint = CLIENT + 1 + own + (random.chance(0.05) ? 16 : 0);
    who.envelope.seal(bytes, 0, length, who.ring.own, version);
    cluster.now.monotonicUs += 1;
    const messages = cluster.receive(target, bytes, length, reads && random.chance(0.2) ? CLIENT : endpoint);
    if (messages > 0) counts.handled[version] = (counts.handled[version] ?? 0) + 1;
    if (random.chance(0.5)) cluster.endTurn(target);
    if (random.chance(0.1)) cluster.settle();
  }

  /** What a lying replica, or a thief of this client's key, tells the client. */
  private answer(): void {
    const { random, cluster, bytes } = this;
    const liar = random.pick(cluster.liars);
    const version = this.version();
    const head = liar.bytesIn(version);
    const length = this.composer.compose(cluster, head, version, random.below(REPLICAS), wire.ALL_MESSAGES, 0);
    liar.seal(bytes, 0, length, cluster.clientRing.own, version);
    cluster.now.monotonicUs += 1;
    cluster.tell(bytes, length);
    if (random.chance(0.05)) cluster.settle();
    if (random.chance(0.02)) cluster.work(1);
  }

  /** What a lying replica tells a tool that asks for its status: pieces of a report, damaged or not. */
  private answerTool(): void {
    const { random, bytes, cluster, status, counts } = this;
    const nonce = status['nonce'];
    begin(wire.StatusReply, bytes, 0);
    const { at } = wire.StatusReply;
    const whole = random.chance(0.9) ? REPORT_BYTES.length : random.pick([0, 1, 200, 32_768, 32_769, -1]);
    const serial = random.chance(0.9) ? random.between(2, 5) : random.below(3);
    const from = random.chance(0.7) ? 0 : random.below(REPORT_BYTES.length);
    const left = REPORT_BYTES.length - from;
    const length = random.pick([0, 1, 128, 500, 1_000, left, left, left, left]);
    writeI32(bytes, at.nonce, nonce[0]!);
    writeI32(bytes, at.nonce + 4, random.chance(0.99) ? nonce[1]! : random.next());
    writeI32(bytes, at.length, whole);
    writeI32(bytes, at.serial, serial);
    writeI32(bytes, at.offset, from);
    writeU16(bytes, at.report, length);
    bytes.set(REPORT_BYTES.subarray(from, from + length), wire.StatusReply.size);
    for (let damaged = random.chance(0.5) ? 0 : random.between(1, 8); damaged > 0 && length > 0; damaged--)
      bytes[wire.StatusReply.size + random.below(length)] = random.next();
    const id = random.chance(0.1) ? random.below(REPLICAS) : REPORT.id;
    status['receive'](bytes, 0, id, cluster.now);
    const { answers } = status['query']!;
    const report = answers[id]!.answer;
    if (report === undefined) return;
    counts.reports++;
    // What is accepted is shown: by `jitpaxos status`, and by `doctor`.
    const shown = answers.map(({ answer, ...rest }) => ({ ...rest, report: answer }));
    summaryLines(summarize(REPORT.cluster, shown, shown), false);
    loadedKeys([report, REPORT]);
    knownFeatures([report, REPORT]);
    answers[id] = { ...answers[id]!, answer: undefined };
  }

  /**
   * Wire version in which to write a datagram: sometimes the previous one. Version 3 stands for the hello of a process
   * that speaks it.
   */
  private version(): number {
    const { random } = this;
    if (random.chance(0.9)) return WIRE_VERSION;
    return random.chance(0.95) ? PREVIOUS_WIRE_VERSION : PREVIOUS_WIRE_VERSION - 1;
  }
}

/** The streams that a receiver remembers, in the order of their use. Their ciphers have scratch space, which may differ. */
function streamsOf(envelope: Envelope): number[] {
  const receiving = envelope['receiving']!;
  const found: number[] = [];
  for (const table of [...receiving['replicas'], receiving['clients']])
    for (let stream = table?.['newest']; stream !== undefined; stream = stream.older)
      found.push(stream.slot, stream.highest, stream.salt0, stream.salt1, stream.salt2, stream.salt3);
  return found;
}

function count(map: Map<string, number>, what: string): void {
  map.set(what, (map.get(what) ?? 0) + 1);
}
