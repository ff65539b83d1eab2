/**
 * The watches that are open at a replica: whose they are, how many each may have, and which have work to do.
 *
 * Rules: a replica has a bounded number of watches, and each owner and each client a part of it. Owners that have work take
 * turns, and the watches of an owner do. What a watch is told: watch-service.ts.
 */
import type { Instant } from '../../protocol/contract.js';
import { WatchFlag } from '../../wire/messages.js';
import { readU16 } from '../../wire/u64.js';
import { Interests } from './interests.js';
import type { OpenWatch } from './open-watch.js';

/** Watches of a replica, of one owner, and of one client. Without keys each client is an owner. */
export const WATCHES_MAX = 1024;
export const WATCHES_PER_OWNER_MAX = 256;
export const WATCHES_PER_CLIENT_MAX = 64;

/** The watches of an owner; `queue`: those that have work to do. */
interface Owner {
  places: number;
  readonly queue: OpenWatch[];
  isReady: boolean;
}

export class WatchTable {
  readonly all: OpenWatch[] = [];
  /** Who waits for changes of keys, and for messages. */
  readonly interests = new Interests<OpenWatch>();
  readonly messages = new Interests<OpenWatch>();
  /** By endpoint. */
  private readonly clients = new Map<number, OpenWatch[]>();
  private readonly owners = new Map<number, Owner>();
  /** Owners that have something in their queues, in turns. */
  private readonly ready: Owner[] = [];

  /** Nodes of the trees of prefixes. */
  get nodes(): number {
    return this.interests.size + this.messages.size - 1;
  }

  get hasReady(): boolean {
    return this.ready.length > 0;
  }

  find(endpoint: number, id: number, owner: number): OpenWatch | undefined {
    return this.clients.get(endpoint)?.find((each) => each.id === id && each.owner === owner);
  }

  /** Whether there is no room for another one of this client. */
  isFullFor(endpoint: number, group: number): boolean {
    return (
      this.all.length >= WATCHES_MAX ||
      (this.owners.get(group)?.places ?? 0) >= WATCHES_PER_OWNER_MAX ||
      (this.clients.get(endpoint)?.length ?? 0) >= WATCHES_PER_CLIENT_MAX
    );
  }

  add(watch: OpenWatch): void {
    const watches = this.clients.get(watch.endpoint);
    if (watches === undefined) this.clients.set(watch.endpoint, [watch]);
    else watches.push(watch);
    const owner = this.owners.get(watch.group) ?? { places: 0, queue: [], isReady: false };
    owner.places++;
    this.owners.set(watch.group, owner);
    const { prefixes } = watch;
    for (let at = 0; at < prefixes.length; at += 2 + readU16(prefixes, at)) {
      const prefix = prefixes.subarray(at + 2, at + 2 + readU16(prefixes, at));
      if ((watch.flags & WatchFlag.noKeys) === 0) this.interests.add(watch, prefix);
      if ((watch.flags & WatchFlag.messages) !== 0) this.messages.add(watch, prefix);
    }
    this.all.push(watch);
  }

  remove(watch: OpenWatch): void {
    const watches = this.clients.get(watch.endpoint)!;
    watches.splice(watches.indexOf(watch), 1);
    if (watches.length === 0) this.clients.delete(watch.endpoint);
    const owner = this.owners.get(watch.group)!;
    const queued = owner.queue.indexOf(watch);
    if (queued >= 0) owner.queue.splice(queued, 1);
    if (--owner.places === 0) this.owners.delete(watch.group);
    this.interests.remove(watch);
    const index = this.all.indexOf(watch);
    const last = this.all.pop()!;
    if (last !== watch) this.all[index] = last;
  }

  /** It has work to do. */
  enqueue(watch: OpenWatch): void {
    if (watch.state === 'queued') return;
    watch.state = 'queued';
    const owner = this.owners.get(watch.group)!;
    owner.queue.push(watch);
    this.makeReady(owner);
  }

  /** The first watch of the owner whose turn it is. */
  takeTurn(serve: (watch: OpenWatch, now: Instant) => void, now: Instant): void {
    const owner = this.ready.shift()!;
    owner.isReady = false;
    const watch = owner.queue.shift();
    if (watch !== undefined) serve(watch, now);
    this.makeReady(owner);
  }

  private makeReady(owner: Owner): void {
    if (owner.isReady || owner.queue.length === 0) return;
    owner.isReady = true;
    this.ready.push(owner);
  }
}
