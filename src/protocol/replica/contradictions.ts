/**
 * Messages that contradict what is committed here. Each is ignored, as if it had been lost, and named; all replicas are
 * told what this one has committed, so that those that differ answer.
 *
 * A replica that a quorum of the voters contradicts is in the wrong, since at most f voters are: it stops itself
 * (`log-diverged`). So no replica, whatever it says, stops another.
 */
import { toHex } from '../../wire/u64.js';
import { SLOTS } from '../configuration.js';
import type { Instant } from '../contract.js';
import { Counter } from '../counters.js';
import { lowest } from '../masks.js';
import { DivergedError, OTHERS_GO_ON } from './diverged-error.js';
import type { ReplicaState } from './replica-state.js';
import type { Sender } from './replica-sender.js';

/** A replica that contradicts this one is answered, and named, at most this often, µs. */
const ANSWER_US = 1_000_000;

export interface ChainValue {
  readonly chainHi: number;
  readonly chainLo: number;
}

interface Contradiction extends ChainValue {
  readonly index: number;
}

export class Contradictions {
  /** Replicas whose committed entries differ from this one's, as far as it knows; a mask. */
  replicas = 0;

  /** The last contradiction of each replica. */
  private readonly last: (Contradiction | undefined)[];
  private readonly answeredUs: Float64Array;
  private readonly named: string[];
  private readonly namedUs: Float64Array;

  /** @param compared the chain of an index that is cut from the log and still compared with others, if it is */
  constructor(
    private readonly state: ReplicaState,
    private readonly sender: Sender,
    private readonly compared: (index: number) => ChainValue | undefined,
  ) {
    this.last = new Array<Contradiction | undefined>(SLOTS).fill(undefined);
    this.answeredUs = new Float64Array(SLOTS).fill(-Infinity);
    this.named = new Array<string>(SLOTS).fill('');
    this.namedUs = new Float64Array(SLOTS).fill(-Infinity);
  }

  /**
   * Replica `from` says that entry `index` is committed under that chain. True if another chain is committed here under
   * that index: the message must then be ignored. Throws DivergedError.
   */
  contradicts(from: number, index: number, chainHi: number, chainLo: number, now: Instant): boolean {
    const { log, committed } = this.state;
    if (index > committed || log.matches(index, chainHi, chainLo)) return false;
    const own = this.committedChain(index);
    if (own === undefined || (own.chainHi === chainHi && own.chainLo === chainLo)) return false;
    this.last[from] = { index, chainHi, chainLo };
    this.replicas |= 1 << from;
    this.name(
      from,
      `says that entry ${index} is committed with chain ${toHex(chainHi, chainLo)}, and here it is with ${toHex(own.chainHi, own.chainLo)}`,
      now,
    );
    // A replica that differs answers; a replica that agrees with this one tells the other.
    this.answer(from, index, now);
    this.judge();
    return true;
  }

  /** Replica `from` says something else that contradicts what is committed here: `what`. It must be ignored. */
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

  /** Another host has that slot: what was heard from there is of the one before. */
  forget(slot: number): void {
    this.last[slot] = undefined;
    this.replicas &= ~(1 << slot);
    this.answeredUs[slot] = -Infinity;
    this.named[slot] = '';
    this.namedUs[slot] = -Infinity;
  }

  private judge(): void {
    const { state } = this;
    let replicas = 0;
    this.last.forEach((said, r) => {
      const own = said === undefined ? undefined : this.committedChain(said.index);
      // A snapshot that was installed meanwhile may have corrected it.
      if (said !== undefined && own !== undefined && (own.chainHi !== said.chainHi || own.chainLo !== said.chainLo))
        replicas |= 1 << r;
    });
    this.replicas = replicas;
    if (!state.configuration.hasQuorum(replicas)) return;
    throw new DivergedError(
      'log-diverged',
      `what replica ${state.hosts.self} takes for committed is not what replicas ${state.hosts.namesOf(replicas)} committed: ${this.last
        .map((said, r) =>
          said !== undefined && ((replicas >>> r) & 1) === 1
            ? `entry ${said.index} has chain ${toHex(said.chainHi, said.chainLo)} at replica ${state.hosts.idOf(r)}`
            : '',
        )
        .filter((text) => text !== '')
        .join(', ')}, and another here. ` + `Its log is not that of this cluster; ${OTHERS_GO_ON}`,
    );
  }

  /** The chain of a committed entry, if it is known. */
  private committedChain(index: number): ChainValue | undefined {
    const { log, committed } = this.state;
    if (index <= committed && index >= log.baseIndex)
      return { chainHi: log.chainHi(index), chainLo: log.chainLo(index) };
    return this.compared(index);
  }

  /** Logs what a replica said, once for each thing that it said, and not more often than it is answered. */
  private name(from: number, what: string, now: Instant): void {
    if (this.named[from] === what || now.monotonicUs - this.namedUs[from]! < ANSWER_US) return;
    this.named[from] = what;
    this.namedUs[from] = now.monotonicUs;
    this.state.counters[Counter.contradicted]!++;
    this.state.transition('contradicted', `replica ${this.state.hosts.idOf(from)} ${what}; its message is ignored`);
  }

  /** Tells all replicas what is committed here: those that differ answer. */
  private answer(from: number, index: number, now: Instant): void {
    if (now.monotonicUs - this.answeredUs[from]! < ANSWER_US) return;
    this.answeredUs[from] = now.monotonicUs;
    for (let rest = this.state.hosts.others; rest !== 0; rest &= rest - 1) this.sendChain(lowest(rest), index);
  }

  private sendChain(to: number, index: number): void {
    const own = this.committedChain(index)!;
    this.sender.stateDigest(to, index, own.chainHi, own.chainLo, 0, 0, false, 0);
  }
}
