/** Which configuration every view of a run has, whoever still remembers: what replicas say they know to be committed. */
import { Configuration, EPOCH_VIEWS } from '../protocol/configuration.js';
import { configurationsOf } from '../protocol/membership/configurations.js';
import type { Membership } from '../protocol/membership/membership.js';
import { Violation } from './violation.js';

export class Epochs {
  /** In ascending order. */
  private readonly known: Configuration[] = [];
  /** The data directory that each id was first given to, by id. */
  private readonly directories = new Map<number, string>();
  /** The newest membership that a replica knows to be committed. */
  members: Membership | undefined;

  constructor(readonly replicas: number) {
    const ids = Array.from({ length: replicas }, (_, id) => id);
    this.known.push(new Configuration(0, ids, ids, 0, EPOCH_VIEWS - 1));
  }

  /** Some replica takes this for committed. Invariants `OneCfg` and C1 of the model. */
  learn(members: Membership): void {
    if (this.members !== undefined && members.index <= this.members.index) return;
    if (members.started > (this.members?.started ?? 0)) this.begun++;
    this.members = members;
    this.checkIds(members);
    for (const configuration of configurationsOf(members)) {
      const before = this.known.find(({ epoch }) => epoch === configuration.epoch);
      if (before === undefined) this.known.push(configuration);
      else if (before.ids.join() !== configuration.ids.join())
        throw new Violation(
          'one-start',
          `epoch ${configuration.epoch} has voters ${before.ids.join(' ')}, and voters ${configuration.ids.join(' ')}`,
        );
    }
  }

  /** Rule C7: an id means one directory, for good. */
  private checkIds({ hosts, index }: Membership): void {
    for (const { id, identityHi, identityLo } of hosts) {
      if ((identityHi | identityLo) === 0) continue;
      const directory = `${identityHi}.${identityLo}`;
      const before = this.directories.get(id) ?? directory;
      this.directories.set(id, before);
      if (before !== directory)
        throw new Violation(
          'one-start',
          `entry ${index} gives id ${id}, which directory ${before} had, to directory ${directory}`,
        );
    }
  }

  /** Epochs that began beside the first, as far as replicas know. */
  begun = 0;

  /** The configuration in force, and the one that is decided to follow it. */
  present(): Configuration[] {
    return this.members === undefined ? [this.known[0]!] : configurationsOf(this.members);
  }

  /** The view is of an epoch that was decided. */
  has(view: number): boolean {
    return this.known.some((configuration) => configuration.has(view));
  }

  of(view: number): Configuration {
    for (let i = this.known.length - 1; i >= 0; i--) if (this.known[i]!.has(view)) return this.known[i]!;
    throw new Violation('one-start', `view ${view} is of no epoch that was decided`);
  }

  /** The configuration of the epoch before; undefined for the first. */
  before(configuration: Configuration): Configuration | undefined {
    return this.known[this.known.indexOf(configuration) - 1];
  }

  primary(view: number): number {
    return this.of(view).primary(view);
  }

  memberMask(view: number): number {
    return this.of(view).memberMask(view);
  }

  isMember(view: number, replica: number): boolean {
    return ((this.memberMask(view) >>> replica) & 1) === 1;
  }

  membersOf(view: number): number[] {
    const mask = this.memberMask(view);
    return Array.from({ length: 32 }, (_, r) => r).filter((r) => ((mask >>> r) & 1) === 1);
  }
}
