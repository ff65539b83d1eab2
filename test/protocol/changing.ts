/** A cluster whose hosts change, with the part of their hosts that asks who the members are. */
import { EPOCH_VIEWS } from '../../src/protocol/configuration.js';
import { unkeyedChain } from '../../src/protocol/contract.js';
import { Feature, FEATURE_NAMES, featureOperation } from '../../src/protocol/log/features.js';
import { encodeMembership } from '../../src/protocol/membership/membership.js';
import { encodeOperation, type ConfigureOperation } from '../../src/protocol/membership/operations.js';
import { Request, RequestFlag, ReplicaStatus } from '../../src/wire/messages.js';
import { Cluster, hasher, type ClusterOptions, type HandClient, type Packet, type TestReplica } from './harness.js';

export class Changing extends Cluster {
  /** Answers to questions about the members get through. */
  tells = true;
  private readonly operator: HandClient;
  private requests = 0;
  private stamp = 0n;
  private turn = 0;

  /**
   * `n` replicas whose identities are known.
   * @param begun `named`; `unnamed`: without identities; `switched`: the same, and the log switched the feature on
   */
  constructor(
    n: number,
    keepsLog = true,
    begun: 'named' | 'unnamed' | 'switched' = 'named',
    options: ClusterOptions = {},
  ) {
    super(n, { ...options, features: begun === 'switched' ? 0 : Feature.membership, keepsLog });
    this.operator = this.hand();
    const all = Array.from({ length: n }, (_, id) => id);
    this.give(this.operator, Request, this.operator.registration(10), ...this.quorum());
    if (begun === 'switched') {
      this.requests++;
      const operation = featureOperation(FEATURE_NAMES.indexOf('membership') + 1, unkeyedChain(hasher));
      const request = { ...this.operator.request(20, this.requests, ''), flags: RequestFlag.feature, operation };
      this.give(this.operator, Request, request, ...this.quorum());
      this.run(50_000);
    }
    if (begun === 'named')
      for (const id of all) this.ask({ kind: 'name', id, identityHi: 7, identityLo: id + 1, address: `first-${id}:1` });
    this.run(50_000);
  }

  /** The view that most living hosts are in, highest first. */
  get view(): number {
    return Math.max(...this.replicas.filter(({ up }) => up).map(({ state }) => state.logView));
  }

  /** The epoch of that view. */
  get epoch(): number {
    return Math.floor(this.view / EPOCH_VIEWS);
  }

  quorum(): number[] {
    const leader = this.replicas.find(
      ({ up, state }) => up && state.status === ReplicaStatus.normal && state.logView === this.view,
    )!;
    return leader.state.views.members(this.view);
  }

  /** The operator sends this to the members of the view that runs; a request of the number before, if it is asked again. */
  ask(operation: ConfigureOperation, again = false, to: readonly number[] = this.quorum()): void {
    if (!again) {
      this.requests++;
      this.stamp = this.wallNs > this.stamp ? this.wallNs : this.stamp + 1n;
    }
    for (const id of to)
      if (this.replica(id).up)
        this.replica(id).receive(
          Request,
          {
            ...this.operator.request(0, this.requests, ''),
            view: this.view,
            timestamp: this.stamp,
            flags: RequestFlag.configure,
            operation: encodeOperation(operation),
          },
          this.operator.endpoint,
        );
  }

  /** A host is listed, and starts; it has what is committed. */
  join(): number {
    const slot = this.replicas.length;
    const { nextId } = this.newest;
    this.ask({ kind: 'learn', identityHi: 7, identityLo: 100 + slot, address: `host-${slot}:1` });
    this.run(50_000);
    const host = this.create(slot);
    host.joined = { hostId: nextId, members: encodeMembership(this.newest) };
    this.replicas.push(host);
    host.start();
    this.run(100_000);
    return slot;
  }

  /** The host that was listed last has the slot of one that left. It is not started. */
  reuse(slot: number): TestReplica {
    const { hosts } = this.newest;
    const host = this.create(slot);
    host.joined = { hostId: hosts.find((one) => one.slot === slot)!.id, members: encodeMembership(this.newest) };
    this.replicas[slot] = host;
    return host;
  }

  /** The newest membership that a living host knows to be committed. */
  get newest(): Cluster['replicas'][number]['state']['members'] {
    return this.replicas
      .filter(({ up }) => up)
      .map(({ state }) => state.members)
      .reduce((a, b) => (b.index > a.index ? b : a));
  }

  /** Something commits in the view that runs: the number of entries that all its members have committed grows. */
  serves(): boolean {
    const view = this.view;
    const members = this.quorum();
    if (members.some((id) => !this.replica(id).up || this.replica(id).state.view !== view)) return false;
    const before = this.replica(members[0]!).state.committed;
    this.ask({ kind: 'move', id: this.newest.voters[0]!, address: `moved-${this.requests}:1` });
    this.run(50_000);
    return members.every((id) => this.replica(id).up && this.replica(id).state.committed > before);
  }

  /** Runs until it is so; false: it was not within that time. */
  until(us: number, isSo: () => boolean): boolean {
    for (let left = us; left > 0; left -= 10_000) {
      if (isSo()) return true;
      this.run(10_000);
    }
    return isSo();
  }

  /** As hosts do: from one that the receiver does not list comes nothing but an answer to its question. */
  override arrive(packet: Packet): void {
    const replica = this.replicas[packet.to];
    const isUnlisted =
      packet.from < this.replicas.length && replica?.up === true && !replica.state.hosts.has(packet.from);
    if (isUnlisted) replica.asked.push(packet.from);
    else super.arrive(packet);
  }

  override pass(us: number): void {
    super.pass(us);
    if (!this.tells) return;
    for (const replica of this.replicas) {
      if (!replica.up) continue;
      for (const asked of replica.asked.splice(0)) {
        const of = asked < 0 ? this.turn++ % this.replicas.length : asked;
        if (this.replicas[of]?.up === true && of !== replica.id && !this.isCut(replica.id, of))
          replica.core.takeMembers(encodeMembership(this.replica(of).state.members), this.now);
      }
    }
  }

  /** Pairs of replicas that do not hear each other. */
  private cuts: readonly (readonly [number, number])[] = [];

  /** These do not hear the others. */
  cut(...side: number[]): void {
    const others = this.replicas.map(({ id }) => id).filter((id) => !side.includes(id));
    this.cuts = side.flatMap((a) => others.map((b) => [a, b] as const));
    this.loses = ({ from, to }) => this.isCut(from, to);
  }

  mend(): void {
    this.cuts = [];
    this.heal();
  }

  private isCut(a: number, b: number): boolean {
    return this.cuts.some(([x, y]) => (x === a && y === b) || (x === b && y === a));
  }
}
