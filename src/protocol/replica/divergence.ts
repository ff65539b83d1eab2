/**
 * What replicas find out about each other that cannot happen if all of them work correctly: logs that differ where both
 * are committed, different states after the same log, and different limits that decide what is executed.
 *
 * Which one is at fault? One replica's word against another's decides nothing. A message that contradicts what is
 * committed here is therefore ignored, reported, and answered with what this replica has. A replica is in the wrong if
 * f + 1 others contradict its committed log, or share another state or other limits, since at most f are wrong: it
 * stops *itself*, by throwing DivergedError. So no replica, whatever it says, stops another, and of two that are alone
 * neither is stopped: each reports the other, until a third decides.
 *
 * `StateDigest` carries all three. With a digest it is about machine and session table at a snapshot's index; without
 * one (zero) it is about the log alone, and may ask for the other's digest; at index 0, where there is no state yet,
 * chain and digest hold the limits themselves (`packLimits`).
 *
 * Digests are those of snapshots that this replica took of its own execution, at indexes that all replicas choose alike
 * (replica-state.ts). An installed snapshot would only echo its source, and so would everything that follows from it:
 * of two that differ, the one from which a third was filled would get a majority that way. So after an installation a
 * replica reports nothing. It asks the others what they have at each index, until all of them have agreed at one, or
 * none has contradicted it for a while (they may be as mute as it is), or f + 1 have contradicted it and it stops. This
 * muteness is kept with the log, because a restart does not make a state its own.
 *
 * Digests are XXH3-64, unkeyed: they guard against accidents, which do not search for collisions. A client cannot cause
 * different states in the first place: it would need two operations under one chain, and the chain prevents that.
 */
import { JitPaxosError } from '../../errors.js';
import { StateDigest } from '../../wire/messages.js';
import { readI32, readIndex, toHex } from '../../wire/u64.js';
import type { Limits } from '../config.js';
import type { Hasher, Instant, Snapshot } from '../contract.js';
import { Counter } from '../counters.js';
import { count } from '../masks.js';
import type { ReplicaState } from './replica-state.js';
import type { Sender } from './replica-sender.js';

export type DivergenceCode = 'log-diverged' | 'state-diverged' | 'limits-differ';

/** This replica is in the wrong, according to f + 1 others. Its host stops it. */
export class DivergedError extends JitPaxosError {
  override readonly name = 'DivergedError';
  declare readonly code: DivergenceCode;
  constructor(code: DivergenceCode, message: string) {
    super(code, message);
  }
}

/** Indexes whose digests are remembered, for each replica. */
const KEPT = 4;
/**
 * If no digest for an index was heard, this replica repeats its own and asks again: this many times, with doubling
 * pauses. A requested one is sent once.
 */
const REPEATS = 5;
/**
 * A state from another replica counts as the own one when no replica has contradicted it for this many suspicion times.
 */
const QUIET = 64;
/** A message that contradicts this replica is answered at most this often, µs. */
const ANSWER_US = 1_000_000;

/** Sync intervals for which a replica in the wrong waits until its last messages have left. */
const WAITS_MAX = 20;

const NEXT = 'the others go on; docs/operate/operations.md, "A replica that diverged", says how to bring it back';

/** What a replica reported about one index. Index 0: its limits. */
interface Said {
  readonly index: number;
  readonly chainHi: number;
  readonly chainLo: number;
  readonly digestHi: number;
  readonly digestLo: number;
}

/** What this replica itself has at one index, and what was heard about it. */
interface Own extends Said {
  /** Replicas that have reported something for this index, one bit each. */
  heard: number;
  /** Of these, replicas that reported the same. */
  agreed: number;
  /** Of these, replicas that reported something else. */
  differed: number;
  /** Not reported, only asked about: the state is another replica's. */
  readonly isEcho: boolean;
  repeats: number;
  repeatUs: number;
}

export class Divergence {
  /**
   * Replicas that differ from this one, as far as it knows, one bit each: in committed entries, in the state behind
   * them, in the limits.
   */
  log = 0;
  states = 0;
  limits = 0;

  /** The value of `Execution.installs` at the last snapshot. */
  private installs = 0;
  /** The last index that was compared, but not reported, since the state came from another replica; undefined: none. */
  private echo: Own | undefined;
  /** Since when no replica has contradicted that state, monotonic µs. */
  private quietUs = 0;
  /** Why this replica stops, and when. */
  private verdict: DivergedError | undefined;
  private verdictUs = Infinity;
  private waits = 0;
  /** Replicas already reported as being in the wrong. */
  private decided = 0;
  private readonly own: Own[] = [];
  private readonly said: Said[][];
  private readonly contradictions: (Said | undefined)[];
  private readonly answeredUs: Float64Array;
  private readonly named: string[];
  private readonly namedUs: Float64Array;
  /** Index at which the state of each replica was last found to differ. */
  private readonly differedAt: Float64Array;
  private readonly digest = new Uint8Array(8);

  constructor(
    private readonly state: ReplicaState,
    private readonly sender: Sender,
    private readonly hasher: Hasher,
  ) {
    const { n } = state;
    this.said = Array.from({ length: n }, () => []);
    this.contradictions = new Array<Said | undefined>(n).fill(undefined);
    this.answeredUs = new Float64Array(n).fill(-Infinity);
    this.named = new Array<string>(n).fill('');
    this.namedUs = new Float64Array(n).fill(-Infinity);
    this.differedAt = new Float64Array(n).fill(-1);
  }

  /** A life begins: reports the limits. */
  start(now: Instant): void {
    this.say({ index: 0, ...packLimits(this.state.config.limits) }, false, now);
  }

  /** Ends a turn: a snapshot of this replica's own may have become stable in it. */
  flush(now: Instant): void {
    const { execution } = this.state;
    const snapshot = execution.comparable;
    if (snapshot === undefined) return;
    execution.comparable = undefined;
    this.took(snapshot, now);
  }

  /** Lowers `out[0]` to the time of the next timed action, monotonic µs. */
  wakeBefore(out: Float64Array): void {
    if (this.verdictUs < out[0]!) out[0] = this.verdictUs;
    for (const own of this.own) if (this.isOpen(own) && own.repeatUs < out[0]!) out[0] = own.repeatUs;
  }

  /** Throws DivergedError. */
  tick(now: Instant): void {
    if (this.verdict !== undefined && now.monotonicUs >= this.verdictUs) {
      // A hanging disk is no reason to continue with a wrong state.
      if (this.state.out.idle || ++this.waits > WAITS_MAX) throw this.verdict;
      this.verdictUs = now.monotonicUs + this.state.config.timings.syncIntervalUs;
    }
    for (const own of this.own) {
      if (now.monotonicUs < own.repeatUs || !this.isOpen(own)) continue;
      own.repeats++;
      own.repeatUs = now.monotonicUs + this.pauseUs(own.repeats);
      this.ask(own);
    }
  }

  /**
   * Replica `from` reports that entry `index` is committed under that chain. True if another chain is committed here
   * under that index: the message must then be ignored. Throws DivergedError.
   */
  contradicts(from: number, index: number, chainHi: number, chainLo: number, now: Instant): boolean {
    const { log, committed } = this.state;
    if (index > committed || log.matches(index, chainHi, chainLo)) return false;
    const chain = this.committedChain(index);
    if (chain === undefined || (chain.hi === chainHi && chain.lo === chainLo)) return false;
    this.contradictions[from] = { index, chainHi, chainLo, digestHi: 0, digestLo: 0 };
    this.log |= 1 << from;
    this.name(
      from,
      `says that entry ${index} is committed with chain ${toHex(chainHi, chainLo)}, and here it is with ${toHex(chain.hi, chain.lo)}`,
      now,
    );
    // A replica that differs answers; a replica that agrees with this one tells the other.
    this.answer(from, index, now);
    this.judgeLog();
    return true;
  }

  /** Replica `from` reports something else that contradicts what is committed here: `what`. It must be ignored. */
  impossible(from: number, what: string, now: Instant): void {
    this.name(from, what, now);
    this.answer(from, this.state.committed, now);
  }

  /**
   * Replica `from` believes that `index` has another chain than what is committed here: it is told. Only it knows
   * whether that is committed there.
   */
  correct(from: number, index: number, now: Instant): void {
    if (this.committedChain(index) === undefined || now.monotonicUs - this.answeredUs[from]! < ANSWER_US) return;
    this.answeredUs[from] = now.monotonicUs;
    this.sendChain(from, index);
  }

  onStateDigest(bytes: Uint8Array, o: number, from: number, now: Instant): void {
    const at = StateDigest.at;
    const said: Said = {
      index: readIndex(bytes, o + at.index),
      chainHi: readI32(bytes, o + at.chain),
      chainLo: readI32(bytes, o + at.chain + 4),
      digestHi: readI32(bytes, o + at.digest),
      digestLo: readI32(bytes, o + at.digest + 4),
    };
    if (said.index > 0 && this.contradicts(from, said.index, said.chainHi, said.chainLo, now)) return;
    const own = this.own.find(({ index }) => index === said.index);
    if (bytes[o + at.asks] === 1 && own !== undefined && !own.isEcho) this.send(from, own, false);
    if ((said.digestHi | said.digestLo) === 0) return;
    const list = this.said[from]!;
    const before = list.findIndex(({ index }) => index === said.index);
    if (before >= 0) list[before] = said;
    else list.push(said);
    // The limits reported first stay.
    while (list.length > KEPT + 1)
      list.splice(
        list.findIndex(({ index }) => index !== 0),
        1,
      );
    if (own === undefined) return;
    own.heard |= 1 << from;
    this.judge(own, now);
  }

  private took(snapshot: Snapshot, now: Instant): void {
    this.hasher.hash64(snapshot.bytes, 0, snapshot.bytes.length, this.digest, 0);
    const { index, chainHi, chainLo } = snapshot;
    const { state } = this;
    const { installs } = state.execution;
    const { echo } = this;
    // What was compared before an installation was another state.
    if (echo === undefined || installs !== this.installs || echo.differed !== 0) this.quietUs = now.monotonicUs;
    else if (this.isHeard(echo) || now.monotonicUs - this.quietUs >= QUIET * state.config.timings.suspectUs)
      state.ownState();
    this.installs = installs;
    const { isEcho } = state;
    const own = this.say(
      { index, chainHi, chainLo, digestHi: readI32(this.digest, 0), digestLo: readI32(this.digest, 4) },
      isEcho,
      now,
    );
    this.echo = isEcho ? own : undefined;
  }

  private say(said: Said, isEcho: boolean, now: Instant): Own | undefined {
    const { state } = this;
    if (state.n === 1) return undefined;
    const own: Own = {
      ...said,
      heard: 1 << state.id,
      agreed: 1 << state.id,
      differed: 0,
      isEcho,
      repeats: 0,
      repeatUs: now.monotonicUs + this.pauseUs(0),
    };
    this.said.forEach((list, r) => {
      if (list.some(({ index }) => index === said.index)) own.heard |= 1 << r;
    });
    this.own.push(own);
    while (this.own.length > KEPT + 1) this.own.splice(1, 1); // the first are the limits
    // The others may have reported their limits long ago.
    if (isEcho) this.ask(own);
    else for (let r = 0; r < state.n; r++) if (r !== state.id) this.send(r, own, said.index === 0);
    this.judge(own, now);
    return own;
  }

  /** Compares what others reported for an index with what this replica has. */
  private judge(own: Own, now: Instant): void {
    const { state } = this;
    const votes = new Map<string, number>();
    let agreeing = 1;
    for (let r = 0; r < state.n; r++) {
      const said = this.said[r]!.find(({ index }) => index === own.index);
      if (said === undefined || (own.index > 0 && (said.chainHi !== own.chainHi || said.chainLo !== own.chainLo)))
        continue;
      if (compared(said) === compared(own)) {
        agreeing++;
        this.settle(own, r);
      } else {
        votes.set(compared(said), (votes.get(compared(said)) ?? 0) | (1 << r));
      }
    }
    for (const replicas of votes.values()) if (count(replicas) > state.views.f) this.stopBy(own, replicas, now);
    for (const replicas of votes.values())
      for (let r = 0; r < state.n; r++) if (((replicas >>> r) & 1) === 1) this.differs(own, r, agreeing);
  }

  private settle(own: Own, r: number): void {
    if (((own.agreed >>> r) & 1) === 1) return;
    own.agreed |= 1 << r;
    if (own.index === 0) {
      this.limits &= ~(1 << r);
      return;
    }
    this.state.counters[Counter.states_agreed]!++;
    if (own.index > this.differedAt[r]!) this.states &= ~(1 << r);
  }

  /** Reported when it is found, and again when it becomes known which replica is in the wrong. */
  private differs(own: Own, r: number, agreeing: number): void {
    const { state } = this;
    const said = this.said[r]!.find(({ index }) => index === own.index)!;
    const isDecided = agreeing > state.views.f;
    const who = isDecided
      ? `${agreeing} replicas agree with this one, so replica ${r} is in the wrong and stops itself`
      : 'which of them is in the wrong is not known, so none is stopped: look at both';
    const known = own.index === 0 ? this.limits : this.states;
    const isNews = ((known >>> r) & 1) === 0 || (isDecided && ((this.decided >>> r) & 1) === 0);
    if (isDecided) this.decided |= 1 << r;
    else if (isNews) this.decided &= ~(1 << r);
    if (own.index === 0) {
      if (isNews)
        state.transition('limits-differ', `from replica ${r}: ${compareLimits(own, said, `replica ${r}`)}; ${who}`);
      this.limits |= 1 << r;
      return;
    }
    if (isNews)
      state.transition(
        'state-diverged',
        `from replica ${r}: behind entry ${own.index}, chain ${toHex(own.chainHi, own.chainLo)}, the state here has digest ${toHex(own.digestHi, own.digestLo)} and there ${toHex(said.digestHi, said.digestLo)}; ${who}`,
      );
    if (((own.differed >>> r) & 1) === 0) state.counters[Counter.states_differed]!++;
    own.differed |= 1 << r;
    this.states |= 1 << r;
    this.differedAt[r] = Math.max(this.differedAt[r]!, own.index);
  }

  /**
   * This replica is in the wrong. It stops after its own reports have left, so that the others know from whom they
   * differ.
   */
  private stopBy(own: Own, replicas: number, now: Instant): void {
    if (this.verdict !== undefined) return;
    // f + 1 others share another state, so this one's report gives no majority to its own state, wherever that came
    // from.
    if (own.isEcho) for (let to = 0; to < this.state.n; to++) if (to !== this.state.id) this.send(to, own, false);
    const others = names(replicas);
    const r = 31 - Math.clz32(replicas & -replicas);
    const said = this.said[r]!.find(({ index }) => index === own.index)!;
    this.verdictUs = now.monotonicUs + this.state.config.timings.syncIntervalUs;
    if (own.index === 0) {
      this.verdict = new DivergedError(
        'limits-differ',
        `this replica has other limits than replicas ${others}: ${compareLimits(own, said, 'there')}; limits decide what is executed, so give all replicas the same and start it again`,
      );
      return;
    }
    this.verdict = new DivergedError(
      'state-diverged',
      `the state of replica ${this.state.id} behind entry ${own.index}, chain ${toHex(own.chainHi, own.chainLo)}, has digest ${toHex(own.digestHi, own.digestLo)}, and that of replicas ${others}, behind the same log, ${toHex(said.digestHi, said.digestLo)}: ` +
        `its state machine is not deterministic or not the same, or its memory or disk is at fault. It must not serve that state again; ${NEXT}`,
    );
  }

  private judgeLog(): void {
    const { state } = this;
    let replicas = 0;
    this.contradictions.forEach((said, r) => {
      const chain = said === undefined ? undefined : this.committedChain(said.index);
      // A snapshot that was installed meanwhile may have corrected it.
      if (said !== undefined && chain !== undefined && (chain.hi !== said.chainHi || chain.lo !== said.chainLo))
        replicas |= 1 << r;
    });
    this.log = replicas;
    if (count(replicas) <= state.views.f) return;
    throw new DivergedError(
      'log-diverged',
      `what replica ${state.id} takes for committed is not what replicas ${names(replicas)} committed: ${this.contradictions
        .map((said, r) =>
          said !== undefined && ((replicas >>> r) & 1) === 1
            ? `entry ${said.index} has chain ${toHex(said.chainHi, said.chainLo)} at replica ${r}`
            : '',
        )
        .filter((text) => text !== '')
        .join(', ')}, and another here. ` + `Its log is not that of this cluster; ${NEXT}`,
    );
  }

  /** The chain of a committed entry, if it is known. */
  private committedChain(index: number): { readonly hi: number; readonly lo: number } | undefined {
    const { log, committed } = this.state;
    if (index <= committed && index >= log.baseIndex) return { hi: log.chainHi(index), lo: log.chainLo(index) };
    const own = this.own.find((one) => one.index === index && index > 0);
    return own === undefined ? undefined : { hi: own.chainHi, lo: own.chainLo };
  }

  /** Logs it, once for each thing that a replica reported, and not more often than it is answered. */
  private name(from: number, what: string, now: Instant): void {
    if (this.named[from] === what || now.monotonicUs - this.namedUs[from]! < ANSWER_US) return;
    this.named[from] = what;
    this.namedUs[from] = now.monotonicUs;
    this.state.counters[Counter.contradicted]!++;
    this.state.transition('contradicted', `replica ${from} ${what}; its message is ignored`);
  }

  /** Tells all replicas what is committed here: those that differ answer. */
  private answer(from: number, index: number, now: Instant): void {
    if (now.monotonicUs - this.answeredUs[from]! < ANSWER_US) return;
    this.answeredUs[from] = now.monotonicUs;
    for (let r = 0; r < this.state.n; r++) if (r !== this.state.id) this.sendChain(r, index);
  }

  private sendChain(to: number, index: number): void {
    const chain = this.committedChain(index)!;
    this.sender.stateDigest(to, index, chain.hi, chain.lo, 0, 0, false);
  }

  /**
   * Asks the replicas that have reported nothing for that index, and reports what this replica has, if the state is its
   * own.
   */
  private ask(own: Own): void {
    const { state } = this;
    for (let r = 0; r < state.n; r++) {
      if (((own.heard >>> r) & 1) === 1) continue;
      if (own.isEcho) this.sender.stateDigest(r, own.index, own.chainHi, own.chainLo, 0, 0, true);
      else this.send(r, own, true);
    }
  }

  private send(to: number, own: Own, asks: boolean): void {
    this.sender.stateDigest(to, own.index, own.chainHi, own.chainLo, own.digestHi, own.digestLo, asks);
  }

  private isOpen(own: Own): boolean {
    return own.repeats < REPEATS && !this.isHeard(own);
  }

  /** All others have reported something for that index. */
  private isHeard(own: Own): boolean {
    return own.heard === (1 << this.state.n) - 1;
  }

  private pauseUs(repeats: number): number {
    return 2 * this.state.config.timings.suspectUs * 2 ** repeats;
  }
}

/**
 * The limits that decide what is executed, packed in the place of chain and digest: bits 0…20 maxSessions, 21…45
 * maxLanes, 46…61 lanesPerSession; then operationBytes and resultBytes, 16 bits each.
 */
function packLimits(limits: Limits): Omit<Said, 'index'> {
  const { maxSessions, maxLanes, lanesPerSession, operationBytes, resultBytes } = limits;
  const packed = BigInt(maxSessions) | (BigInt(maxLanes) << 21n) | (BigInt(lanesPerSession) << 46n);
  return {
    chainHi: Number(BigInt.asIntN(32, packed >> 32n)),
    chainLo: Number(BigInt.asIntN(32, packed)),
    digestHi: 0,
    digestLo: (operationBytes << 16) | resultBytes,
  };
}

function unpackLimits(said: Said): Record<string, number> {
  const packed = (BigInt.asUintN(32, BigInt(said.chainHi)) << 32n) | BigInt.asUintN(32, BigInt(said.chainLo));
  const bits = (from: bigint, width: number): number => Number(BigInt.asUintN(width, packed >> from));
  return {
    maxSessions: bits(0n, 21),
    maxLanes: bits(21n, 25),
    lanesPerSession: bits(46n, 16),
    operationBytes: said.digestLo >>> 16,
    resultBytes: said.digestLo & 0xffff,
  };
}

/** The limits that differ, with both values. */
function compareLimits(own: Said, said: Said, there: string): string {
  const [mine, theirs] = [unpackLimits(own), unpackLimits(said)];
  return Object.keys(mine)
    .filter((name) => mine[name] !== theirs[name])
    .map((name) => `${name} is ${mine[name]} here and ${theirs[name]} ${there === 'there' ? there : `at ${there}`}`)
    .join(', ');
}

/** What is compared: the state; at index 0 everything. */
function compared(said: Said): string {
  return said.index === 0
    ? `${said.chainHi},${said.chainLo},${said.digestHi},${said.digestLo}`
    : `${said.digestHi},${said.digestLo}`;
}

function names(mask: number): string {
  return Array.from({ length: 32 }, (_, r) => r)
    .filter((r) => ((mask >>> r) & 1) === 1)
    .join(' and ');
}
