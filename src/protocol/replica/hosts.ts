/**
 * Which slots of this replica's masks and tables have a host: the voters, and those that are listed beside them. Every
 * per-replica table has SLOTS entries.
 */
import { SLOTS } from '../configuration.js';
import type { Membership } from '../membership/membership.js';

export class Hosts {
  /** The slots that have a host, this replica's own included; a mask. */
  listed: number;
  /** The host in each slot; −1: none. */
  private readonly ids = new Int32Array(SLOTS).fill(-1);
  private readonly listeners: ((slot: number) => void)[] = [];

  /**
   * @param own slot of this replica
   * @param self its id
   */
  constructor(
    private readonly own: number,
    replicas: number,
    readonly self: number = own,
  ) {
    this.listed = 2 ** replicas - 1;
    for (let id = 0; id < replicas; id++) this.ids[id] = id;
  }

  /** `heard` is called when another host has a slot: what is known of the slot is of the one before. */
  onOther(heard: (slot: number) => void): void {
    this.listeners.push(heard);
  }

  /** The hosts of a committed membership. */
  list({ hosts }: Membership): void {
    this.listed = hosts.reduce((mask, { slot }) => mask | (1 << slot), 0);
    for (const { id, slot } of hosts) {
      if (this.ids[slot] === id) continue;
      this.ids[slot] = id;
      if (slot !== this.own) for (const heard of this.listeners) heard(slot);
    }
  }

  /** All but this replica; a mask. */
  get others(): number {
    return this.listed & ~(1 << this.own);
  }

  /** What comes from there was sent by a replica, or by this one itself; everything else is a client. */
  has(endpoint: number): boolean {
    return endpoint < SLOTS && ((this.listed >>> endpoint) & 1) === 1;
  }

  /** For people: the host in a slot, or the one that was there last; −1: there was none. */
  idOf(slot: number): number {
    return this.ids[slot] ?? -1;
  }

  /** The hosts in a set of slots, ascending. Allocates: for people. */
  idsOf(slots: number): number[] {
    return [...this.ids].filter((id, slot) => id >= 0 && ((slots >>> slot) & 1) === 1).sort((a, b) => a - b);
  }

  /** Those in words: `0 and 2`. */
  namesOf(slots: number): string {
    const ids = this.idsOf(slots);
    return ids.length === 0 ? 'none' : ids.join(' and ');
  }

  /** A number above every slot that has a host. */
  get end(): number {
    return 32 - Math.clz32(this.listed);
  }
}
