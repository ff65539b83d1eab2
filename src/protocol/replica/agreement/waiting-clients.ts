/** Clients that asked to reconcile (Reconcile) before this member's log has their request where the primary's has it. */
import type { ClientAnswers } from '../client-answers.js';
import type { ReplicaState } from '../replica-state.js';

interface Waiting {
  readonly index: number;
  readonly chainHi: number;
  readonly chainLo: number;
  readonly from: number;
}

export class WaitingClients {
  private waiting: Waiting[] = [];

  constructor(
    private readonly state: ReplicaState,
    private readonly answers: ClientAnswers,
  ) {}

  forget(): void {
    this.waiting = [];
  }

  /** A client waits until entry `index` is here under that chain. */
  add(index: number, chainHi: number, chainLo: number, from: number): void {
    // If the list is full the client asks again: its request is not lost.
    if (this.waiting.length < this.state.config.limits.waiting) this.waiting.push({ index, chainHi, chainLo, from });
  }

  /**
   * Answers the clients whose entries are here by now.
   * @param primaryLast the end of the primary's log, as far as is known: waiting for anything beyond it is pointless
   */
  answer(primaryLast: number): void {
    if (this.waiting.length === 0) return;
    const { state } = this;
    const { log } = state;
    const open: Waiting[] = [];
    for (const one of this.waiting) {
      if (log.has(one.index) && log.matches(one.index, one.chainHi, one.chainLo))
        this.answers.acknowledge(one.from, one.index, 0, 1);
      else if (one.index > state.synced && one.index <= primaryLast) open.push(one);
    }
    this.waiting = open;
  }
}
