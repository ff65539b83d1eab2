/**
 * Where the replicas are: the names of the cluster file are resolved at the start, and again when a replica is silent.
 * Hosts that the cluster file does not name are entered while the process runs, and leave again.
 *
 * The rule: a name server decides no more than it must. A process starts with the names that resolve and keeps trying
 * the others. A replica that is heard is never looked up, so its address cannot be taken away. A silent replica is
 * looked up rarely, with growing pauses, off the fast path. Datagrams to a wrong address are authenticated like all
 * others: a host that answers from there without the keys is ignored, so the replica stays silent and is looked up
 * again. An address at which no single host receives, or at which another replica is, is not taken from it.
 *
 * Places behind those of hosts (wire/host-ids.ts) are where one may ask for the members. Nothing is said of them.
 */
import { lookup } from 'node:dns/promises';
import { isIP } from 'node:net';
import { JitPaxosError } from '../errors.js';
import { NOWHERE, type Address, type Notice } from '../transport/transport.js';
import { HOST_PLACES } from '../wire/host-ids.js';
import type { HostAndPort } from './cluster-config.js';
import { addressFault, canonicalHost } from './replica-address.js';

/** All addresses of a name, in order of preference. Rejects if it has none. */
export type Resolver = (host: string) => Promise<readonly { readonly address: string; readonly family: number }[]>;

const systemResolver: Resolver = (host) => lookup(host, { all: true });

/** How long a start waits for names that it can do without. */
const START_MS = 1_000;
/** How often silent replicas are looked for. */
const LOOK_MS = 1_000;
/**
 * Pause between two lookups of a name, at first and at most. A random share of it keeps processes from asking all at
 * once.
 */
const PAUSE_MS = 1_000;
const PAUSE_MAX_MS = 30_000;
const JITTER = 0.5;
/**
 * For how long an address that a name server gave to one replica is not given to another one. Not longer than it takes
 * to look up the first one again: replicas may have changed their places with each other.
 */
const TAKEN_MS = 60_000;

/** What a process knows about who has spoken: see Peers. */
export interface Hearing {
  readonly heardLately: Uint8Array;
  readonly spoken: Uint8Array;
}

/** The tools of a book; tests replace them. */
export interface AddressTools {
  readonly resolver?: Resolver;
  readonly random?: () => number;
  readonly nowMs?: () => number;
  readonly startMs?: number;
}

export class AddressBook {
  /** By replica; the host is empty while a name has no address, and if there is no such replica. */
  readonly addresses: Address[];
  private readonly pauseMs: number[];
  private readonly dueMs: number[];
  /** A lookup is in progress. */
  private readonly pending: number[];
  private readonly failures: (string | undefined)[];
  /** When its present address came from a name server. */
  private readonly resolvedMs: number[];
  private readonly replicas: (HostAndPort | undefined)[] = [];
  /** By replica: what it is called. */
  private readonly ids: number[] = [];
  private hearing: Hearing | undefined;
  private self = -1;
  private moved: (replica: number, address: Address) => void = () => undefined;
  private notice: Notice = () => undefined;
  private timer: NodeJS.Timeout | undefined;
  private looking = false;
  private closed = false;
  private readonly resolver: Resolver;
  private readonly random: () => number;
  private readonly nowMs: () => number;

  private constructor(replicas: readonly (HostAndPort | undefined)[], ids: readonly number[], tools: AddressTools) {
    this.resolver = tools.resolver ?? systemResolver;
    this.random = tools.random ?? Math.random;
    this.nowMs = tools.nowMs ?? (() => performance.now());
    this.addresses = [];
    this.pauseMs = [];
    this.dueMs = [];
    this.pending = [];
    this.resolvedMs = [];
    this.failures = [];
    replicas.forEach((at, replica) => this.enter(replica, at, ids[replica] ?? replica));
  }

  /** Nothing is known of that replica but where its name says that it is. */
  private enter(replica: number, at: HostAndPort | undefined, id: number): void {
    this.ids[replica] = id;
    while (this.addresses.length <= replica) this.addresses.push(NOWHERE);
    this.replicas[replica] = at;
    this.addresses[replica] = at === undefined ? NOWHERE : addressOf(at);
    this.pauseMs[replica] = PAUSE_MS;
    this.dueMs[replica] = 0;
    this.pending[replica] = 0;
    this.resolvedMs[replica] = -Infinity;
    this.failures[replica] = undefined;
  }

  /**
   * The replica is there from now on; undefined: there is no such replica any more. Its name is looked up at once.
   * @param id what it is called; default: its place
   */
  place(replica: number, at: HostAndPort | undefined, id = replica): void {
    const before = this.replicas[replica];
    this.ids[replica] = id;
    if (before?.host === at?.host && before?.port === at?.port) return;
    this.enter(replica, at, id);
    this.moved(replica, this.addresses[replica]!);
    if (at === undefined || this.addresses[replica]!.host !== '') return;
    if (this.hearing !== undefined) this.watchNames(this.hearing);
    void this.resolve(replica);
  }

  /**
   * Looks up all names. Resolves when all are known or failed, or after a second if some are known; names that have not
   * answered by then are tried again later. Throws JitPaxosError `host-unresolved` if no replica has an address.
   */
  static async open(
    {
      replicas,
      ids = replicas.map((_, id) => id),
    }: { readonly replicas: readonly (HostAndPort | undefined)[]; readonly ids?: readonly number[] },
    tools: AddressTools = {},
  ): Promise<AddressBook> {
    const book = new AddressBook(replicas, ids, tools);
    const lookups = replicas.map((_, replica) =>
      book.addresses[replica]!.host === '' ? book.resolve(replica) : undefined,
    );
    let timer: NodeJS.Timeout | undefined;
    await Promise.race([
      Promise.all(lookups),
      new Promise<void>((resolve) => (timer = setTimeout(resolve, tools.startMs ?? START_MS))),
    ]);
    clearTimeout(timer);
    // Without any address there is nothing to start with: wait for the first one.
    const known = lookups.map(async (each, replica) => {
      await each;
      if (book.addresses[replica]!.host === '') throw new Error('unknown');
    });
    await Promise.any(known).catch(() => undefined);
    if (book.known === 0) throw unresolved(book.unresolved(), 'none of the replicas has an address');
    return book;
  }

  /** Number of replicas with an address. */
  get known(): number {
    return this.addresses.reduce((sum, { host }) => sum + (host === '' ? 0 : 1), 0);
  }

  /** Names without an address, and why. */
  unresolved(): readonly { readonly replica: number; readonly host: string; readonly error: string }[] {
    return this.addresses.flatMap(({ host }, replica) =>
      host === '' && this.replicas[replica] !== undefined
        ? [{ replica, host: this.replicas[replica]!.host, error: this.failures[replica] ?? 'no answer yet' }]
        : [],
    );
  }

  /**
   * From now on silent replicas are looked up again. @param moved called for each address that changed @param self is
   * never looked up
   */
  watch(hearing: Hearing, moved: (replica: number, address: Address) => void, notice: Notice, self = -1): void {
    this.moved = moved;
    this.self = self;
    this.notice = notice;
    for (const { replica, host, error } of this.unresolved()) if (replica !== self) this.say(replica, host, error);
    this.hearing = hearing;
    if (this.addresses.some(({ name }, replica) => name !== undefined && replica !== self)) this.watchNames(hearing);
  }

  private watchNames(hearing: Hearing): void {
    if (this.closed) return;
    this.timer ??= setInterval(() => void this.look(hearing, this.self).catch(() => undefined), LOOK_MS).unref();
  }

  close(): void {
    this.closed = true;
    clearInterval(this.timer);
  }

  /**
   * Looks up silent replicas that are due, one after the other: a name server that does not answer blocks one thread at
   * most.
   */
  async look({ heardLately, spoken }: Hearing, self = -1): Promise<void> {
    if (this.looking) return;
    this.looking = true;
    try {
      for (let replica = 0; replica < this.addresses.length && !this.closed; replica++) {
        const { host, name } = this.addresses[replica]!;
        if (name === undefined || replica === self) continue;
        const heard = heardLately[replica] === 1;
        heardLately[replica] = 0;
        if (heard) {
          this.pauseMs[replica] = PAUSE_MS;
          spoken[replica] = 0;
        } else if ((host === '' || spoken[replica] === 1) && this.nowMs() >= this.dueMs[replica]!) {
          await this.resolve(replica);
        }
      }
    } finally {
      this.looking = false;
    }
  }

  private async resolve(replica: number): Promise<void> {
    const at = this.replicas[replica];
    if (this.pending[replica] === 1 || at === undefined) return;
    this.pending[replica] = 1;
    const { host: name, port } = at;
    const present = this.addresses[replica]!;
    try {
      const all = await this.resolver(name);
      if (this.closed || all.length === 0 || this.replicas[replica] !== at) return;
      const found = all.filter(({ address }) => this.refusalOf(replica, address) === undefined);
      if (found.length === 0) throw new Error(this.refusalOf(replica, all[0]!.address));
      this.failures[replica] = undefined;
      this.resolvedMs[replica] = this.nowMs();
      // If a name has several addresses, take the next one: the current one does not answer.
      const used = found.findIndex(({ address }) => address === present.host);
      const { address: host, family } = found[(used + 1) % found.length]!;
      if (host === present.host) return;
      const address: Address = { host, port, family: family === 6 ? 6 : 4, ...named(name) };
      this.addresses[replica] = address;
      if (replica < HOST_PLACES)
        this.notice('peer.address', {
          peer: this.ids[replica],
          name,
          from: present.host === '' ? undefined : present.host,
          to: host,
          next:
            present.host === ''
              ? 'nothing: the name resolves now'
              : 'nothing, when the replica moved; else see who changed the name',
        });
      this.moved(replica, address);
    } catch (error) {
      if (this.replicas[replica] !== at) return;
      this.failures[replica] = messageOf(error);
      this.say(replica, name, messageOf(error));
    } finally {
      if (this.replicas[replica] === at) this.ended(replica);
    }
  }

  /** A lookup ended: the next one comes later. */
  private ended(replica: number): void {
    this.pending[replica] = 0;
    const pause = this.pauseMs[replica]!;
    this.dueMs[replica] = this.nowMs() + pause * (1 + JITTER * this.random());
    this.pauseMs[replica] = Math.min(PAUSE_MAX_MS, 2 * pause);
  }

  /** Why the replica cannot be at an address that a name server gave. */
  private refusalOf(replica: number, address: string): string | undefined {
    const fault = addressFault(address);
    if (fault !== undefined) return `it resolves to ${address}, which ${fault}`;
    if (replica >= HOST_PLACES) return undefined;
    const { port } = this.replicas[replica]!;
    const host = canonicalHost(address);
    // Other places are asked who the members are, and a host may well be where one asks.
    const at = this.addresses.findIndex(
      (other, index) =>
        index !== replica &&
        index < HOST_PLACES &&
        other.port === port &&
        canonicalHost(other.host) === host &&
        (other.name === undefined || index === this.self || this.nowMs() - this.resolvedMs[index]! < TAKEN_MS),
    );
    return at < 0 ? undefined : `it resolves to ${address} port ${port}, where replica ${this.ids[at]!} is`;
  }

  /** Of hosts only: that an address where one may ask is gone is no news. */
  private say(replica: number, name: string, error: string): void {
    if (replica >= HOST_PLACES) return;
    const { host } = this.addresses[replica]!;
    this.notice('peer.unresolved', {
      peer: this.ids[replica],
      name,
      error,
      next:
        host === ''
          ? 'the others are enough while they are a majority; check the name, or write its address into the cluster file'
          : `${host} stays in use; check the name server`,
    });
  }
}

/** `host-unresolved` for names without an address. */
export function unresolved(
  names: readonly { readonly host: string; readonly error: string }[],
  what: string,
): JitPaxosError {
  return new JitPaxosError(
    'host-unresolved',
    `${what}: ${names.map(({ host, error }) => `host ${host} of the cluster file does not resolve (${error})`).join('; ')}; check the name${names.length > 1 ? 's' : ''}, or write ${names.length > 1 ? 'their addresses' : 'its address'}`,
  );
}

/** Empty while its name has not been looked up. */
function addressOf({ host, port }: HostAndPort): Address {
  const family = isIP(host);
  return family === 0 ? { host: '', port, family: 4, ...named(host) } : { host, port, family: family as 4 | 6 };
}

/** `localhost` never moves. */
function named(host: string): { readonly name?: string } {
  return host === 'localhost' ? {} : { name: host };
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
