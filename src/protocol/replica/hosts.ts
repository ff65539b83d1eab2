/**
 * Which slots of this replica's masks and tables have a host: the voters, and those that are listed beside them. Every
 * per-replica table has SLOTS entries.
 */
import { SLOTS } from '../configuration.js';
import type { Membership } from '../membership/membership.js';

export class Hosts {
  /** The slots that have a host, this replica's own included; a mask. */
  listed: number;

  /** @param own slot of this replica */
  constructor(
    private readonly own: number,
    replicas: number,
  ) {
    this.listed = 2 ** replicas - 1;
  }

  /** The hosts of a committed membership. */
  list({ hosts }: Membership): void {
    this.listed = hosts.reduce((mask, { slot }) => mask | (1 << slot), 0);
  }

  /** All but this replica; a mask. */
  get others(): number {
    return this.listed & ~(1 << this.own);
  }

  /** What comes from there was sent by a replica, or by this one itself; everything else is a client. */
  has(endpoint: number): boolean {
    return endpoint < SLOTS && ((this.listed >>> endpoint) & 1) === 1;
  }

  /** A number above every slot that has a host. */
  get end(): number {
    return 32 - Math.clz32(this.listed);
  }
}
