/** A cluster whose log is real and whose hosts are not, for tests of what an operator's tool does to it. */
import type { Found, HostSeen, MemberRequest, Seen } from '../../src/cli/members/plan.js';
import { change } from '../../src/protocol/membership/changes.js';
import { firstMembership, hostOf, type Membership } from '../../src/protocol/membership/membership.js';
import { decodeOperation, encodeOperation, type ConfigureOperation } from '../../src/protocol/membership/operations.js';
import { membersOf } from '../../src/server/known-members.js';

export const ADDRESS = (id: number): string => `old-${id}:7400`;
export const NEW = 'new-1:7400';
export const OTHER = 'new-2:7400';

/** Sixteen digits that no other number has. */
export const identity = (number: number): string => (0xabc000 + number).toString(16).padStart(16, '0');

export class World {
  membership: Membership;
  isOn = false;
  knows = true;
  speaks = 5;
  readonly down = new Set<number>();
  /** Hosts that the primary hears although they do not answer the tool. */
  readonly heard = new Set<number>();
  readonly status = new Map<number, string>();
  readonly behind = new Map<number, number>();
  /** By address: the identity of the directory there. */
  readonly processes = new Map<string, string>();
  /** By address, before what the processes would say. */
  readonly says = new Map<string, Found>();
  /** New hosts lag this much when they begin, and halve it with every look. */
  lag = 0;
  receivedBytes = 0;
  index = 0;
  /** Only then does a decided epoch begin. */
  mayBegin = true;
  readonly asked: string[] = [];

  constructor(readonly replicas: number) {
    this.membership = firstMembership(replicas);
    for (let id = 0; id < replicas; id++) this.processes.set(ADDRESS(id), identity(id));
  }

  get voters(): readonly number[] {
    return this.membership.voters;
  }

  /** A process waits to be added. */
  joins(address: string, number: number): void {
    this.processes.set(address, identity(number));
  }

  addressOf(id: number): string {
    const { address } = hostOf(this.membership, id)!;
    return address === '' ? ADDRESS(id) : address;
  }

  see(addresses: readonly string[], began: number): Seen {
    const { membership } = this;
    const list = membersOf(
      membership,
      { replicas: Array.from({ length: this.replicas }, (_, id) => ({ host: `old-${id}`, port: 7400 })) },
      -1,
      undefined,
    );
    const hosts = new Map<number, HostSeen>();
    for (const { id, address } of list.hosts) {
      const there = this.processes.get(address);
      const listed = list.hosts.find((host) => host.id === id)!.identity;
      if (
        this.down.has(id) ||
        there === undefined ||
        (id < this.replicas && there !== identity(id)) ||
        (listed !== undefined && listed !== there)
      )
        continue;
      const behind = this.behind.get(id) ?? (id < this.replicas ? 0 : this.lag);
      this.behind.set(id, behind >> 1);
      hosts.set(id, {
        status: this.status.get(id) ?? 'normal',
        version: '1.2.3',
        knows: this.knows,
        speaks: this.speaks,
        identity: there,
        behind,
        receivedBytes: this.receivedBytes,
      });
    }
    const found = new Map<string, Found>();
    for (const address of addresses) {
      const there = this.processes.get(address);
      const host = list.hosts.find((one) => one.identity === there);
      const of = this.says.get(address);
      if (of !== undefined) found.set(address, of);
      else if (there === undefined)
        found.set(address, { kind: 'silent', why: 'the host says that nothing listens there' });
      else if (host !== undefined && hosts.has(host.id))
        found.set(address, { kind: 'replica', id: host.id, identity: there, version: '1.2.3', knows: this.knows });
      else found.set(address, { kind: 'waits', identity: there });
    }
    const unnamed = new Set(list.hosts.filter((host) => host.identity === undefined).map(({ id }) => id));
    return {
      list,
      began,
      viewEpoch: list.started,
      isOn: this.isOn,
      unnamed,
      hosts,
      heard: new Set([...hosts.keys(), ...this.heard]),
      found,
      nobody: (id) => identity(5000 + id),
    };
  }

  /** The log takes an entry, and what follows from it happens. */
  enter(operation: ConfigureOperation): number {
    const bytes = encodeOperation(operation);
    const { outcome, membership } = change(
      this.membership,
      decodeOperation(bytes, 0, bytes.length)!,
      ++this.index,
      false,
    );
    this.membership = membership;
    return outcome;
  }

  /** The decided epoch begins, if a majority of both serves. */
  begin(): void {
    const { started, decided, voters, nextVoters } = this.membership;
    const serves = (ids: readonly number[]): boolean => ids.filter((id) => !this.down.has(id)).length * 2 > ids.length;
    if (decided === started || !this.mayBegin || !serves(voters) || !serves(nextVoters)) return;
    this.membership = change(this.membership, { kind: 'go', epoch: decided }, ++this.index, true).membership;
  }
}

export const addressesOf = (request: MemberRequest): readonly string[] =>
  request.kind === 'add' ? request.addresses : 'address' in request ? [request.address] : [];
