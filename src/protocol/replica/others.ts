/**
 * What a replica knows of the other replicas, and what they said that cannot be ignored: which of their lives it heard
 * of, who lost a log, and whose configuration differs.
 *
 * Incarnations and lives are durable (introduction.ts says what they are for). The rest is volatile. A set of replicas
 * is a mask: bit r stands for replica r.
 */
import { count } from '../masks.js';
import type { Views } from '../views.js';

export class OtherReplicas {
  /** By replica: the highest incarnation of it that was heard of; 0: none. Durable. Never changed in place. */
  known: readonly number[];
  /** By replica: the life that came with it; this replica's own in its own place. Durable. Never changed in place. */
  lives: readonly number[];
  /** While starting: the replicas that said in this life that they are unused. */
  met = 0;
  /**
   * The replicas that lost their logs, when those that this replica has heard of are more than the cluster survives;
   * otherwise 0.
   */
  lostLogs = 0;
  /** Replicas that last said that their log is chained by another function or secret than this one's. */
  otherChain = 0;
  /** Replicas that last said that their cluster file lists others than this one's. */
  otherList = 0;

  constructor(
    private readonly id: number,
    private readonly views: Views,
  ) {
    this.known = new Array<number>(views.n).fill(0);
    this.lives = this.known;
  }

  /** Takes up what an earlier life knew. */
  recover(known: readonly number[] | undefined, lives: readonly number[] | undefined): void {
    this.known = this.known.map((_, replica) => known?.[replica] ?? 0);
    this.lives = this.lives.map((_, replica) => lives?.[replica] ?? 0);
  }

  /** There are hosts up to slot `end`: what is known of those that are new is nothing. */
  reach(end: number): void {
    const longer = (list: readonly number[]): readonly number[] =>
      list.length >= end ? list : [...list, ...new Array<number>(end - list.length).fill(0)];
    this.known = longer(this.known);
    this.lives = longer(this.lives);
  }

  /** Another host has that slot: nothing is known of it. */
  forget(slot: number): void {
    const without = (list: readonly number[]): readonly number[] => list.map((value, r) => (r === slot ? 0 : value));
    this.known = without(this.known);
    this.lives = without(this.lives);
    this.lostLogs &= ~(1 << slot);
    this.otherChain &= ~(1 << slot);
    this.otherList &= ~(1 << slot);
  }

  /** This replica itself begins a life. */
  live(life: number): void {
    this.lives = this.lives.map((before, replica) => (replica === this.id ? life : before));
  }

  /** Replica `replica` says that these are its incarnation and its life. True if that is news. */
  remember(replica: number, incarnation: number, life: number): boolean {
    const known = this.known[replica]!;
    const isNews = incarnation > known || (incarnation === known && life !== 0 && this.lives[replica] === 0);
    if (replica === this.id || !isNews) return false;
    this.known = this.known.map((before, r) => (r === replica ? incarnation : before));
    this.lives = this.lives.map((before, r) => (r === replica ? life : before));
    return true;
  }

  /** While starting: replica `replica` is unused, or was when it first answered. */
  meet(replica: number): void {
    this.met |= 1 << replica;
  }

  hasMet(replica: number): boolean {
    return ((this.met >>> replica) & 1) === 1;
  }

  /**
   * Returns how many replicas are now known to have lost their logs.
   * @param nowLost those of the replicas `heard` that have no log. What others said before still holds: a busy host
   * answers after the round is over.
   */
  noteLost(nowLost: number, heard: number): number {
    const lost = nowLost | (this.lostLogs & ~heard);
    // Hosts that do not vote have no log until they have fetched one, and nobody needs theirs.
    const lostCount = count(lost & this.views.present.voters);
    this.lostLogs = lostCount > this.views.f ? lost : 0;
    return lostCount;
  }

  /** A view is installed, or the cluster is new: enough replicas have their logs. */
  noneLost(): void {
    this.lostLogs = 0;
  }

  /** True if that is news. */
  noteChain(replica: number, differs: boolean): boolean {
    if (differs === (((this.otherChain >>> replica) & 1) === 1)) return false;
    this.otherChain ^= 1 << replica;
    return true;
  }

  /** True if that is news. */
  noteList(replica: number, differs: boolean): boolean {
    if (differs === (((this.otherList >>> replica) & 1) === 1)) return false;
    this.otherList ^= 1 << replica;
    return true;
  }
}
