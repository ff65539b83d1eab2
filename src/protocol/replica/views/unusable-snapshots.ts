/**
 * Snapshots that were of no use, by the replica that offered them, and whom to ask for a log. May be changed freely: it
 * decides only who is asked. The source may have a better one later.
 */
import { lowest } from '../../masks.js';
import type { Hosts } from '../hosts.js';
import type { Offered } from './arriving-snapshot.js';

/** A snapshot that came damaged this many times was damaged before it left. */
const DAMAGED_MAX = 3;

interface Unusable extends Pick<Offered, 'index' | 'digestHi' | 'digestLo'> {
  /** How often it came damaged; Infinity: it came as it was sent. */
  readonly times: number;
}

export class UnusableSnapshots {
  /** The last one of each source. */
  private readonly last = new Map<number, Unusable>();
  /** How often another replica than a primary was to be asked. */
  private turns = 0;
  /** How often a transfer ended without the log, whatever it had brought. */
  private silent = 0;

  constructor(
    private readonly id: number,
    private readonly hosts: Hosts,
  ) {}

  /** The snapshot came from `source` with another digest than was offered. */
  damaged(source: number, offered: Offered): void {
    this.note(source, offered, this.times(source, offered) + 1);
  }

  /** The snapshot came from `source` as it was sent, and cannot be one. */
  impossible(source: number, offered: Offered): void {
    this.note(source, offered, Infinity);
  }

  /** It is not asked for again. */
  isGivenUp(source: number, offered: Offered): boolean {
    return this.times(source, offered) >= DAMAGED_MAX;
  }

  /**
   * Whom to ask for the log of the view that `primary` leads: the primary, or another replica in the view where the primary's
   * snapshot was of no use. The last chain is the primary's, whichever replica brings the entries.
   */
  sourceFor(primary: number): number {
    if (!this.isSpoilt(primary)) return primary;
    const sources = Array.from({ length: this.hosts.end }, (_, r) => r).filter(
      (r) => r !== this.id && this.hosts.has(r) && (r === primary || !this.isSpoilt(r)),
    );
    return sources[this.turns++ % sources.length]!;
  }

  /**
   * Whom a replica asks that only needs what is committed: spares and then members, which have more time than the primary,
   * and then the primary. The next one is asked after each transfer that ended without the log. A source that brings
   * something may still lack the rest for ever, because it is cut off itself or its log is damaged.
   * @param spares of the view, a mask
   * @param members of the view, a mask
   */
  sourceBeside(primary: number, spares: number, members: number): number {
    const others: number[] = [];
    for (let rest = spares & ~(1 << this.id); rest !== 0; rest &= rest - 1) others.push(lowest(rest));
    for (let rest = members & ~(1 << primary); rest !== 0; rest &= rest - 1) others.push(lowest(rest));
    const usable = others.filter((r) => this.hosts.has(r) && !this.isSpoilt(r));
    const turn = this.silent % (usable.length + 1);
    return turn < usable.length ? usable[turn]! : this.sourceFor(primary);
  }

  /** The source that was asked last did not bring the log. */
  silence(): void {
    this.silent++;
  }

  private isSpoilt(replica: number): boolean {
    return (this.last.get(replica)?.times ?? 0) >= DAMAGED_MAX;
  }

  private note(source: number, { index, digestHi, digestLo }: Offered, times: number): void {
    this.last.set(source, { index, digestHi, digestLo, times });
  }

  private times(source: number, { index, digestHi, digestLo }: Offered): number {
    const known = this.last.get(source);
    return known !== undefined && known.index === index && known.digestHi === digestHi && known.digestLo === digestLo
      ? known.times
      : 0;
  }
}
