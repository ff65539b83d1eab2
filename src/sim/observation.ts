/** What the hosts of a run report: it goes to the checks, the trace, and the drivers that wait for it. */
import { Instant } from '../protocol/contract.js';
import type { LogView, SimulatedReplicaCore } from './cores.js';
import type { ForgottenError } from '../protocol/replica/introduction.js';
import { encodeMembership, type Membership } from '../protocol/membership/membership.js';
import { Feature } from '../protocol/log/features.js';
import { ReplicaStatus, typeOf } from '../wire/messages.js';
import { differenceU64 } from '../wire/u64.js';
import { MEMBERS_WIRE_VERSION } from '../wire/versions.js';
import type { ClientHostEvents } from './client-host.js';
import { SimulatedClock } from './clock.js';
import type { LogFate } from './disk.js';
import { isListed, mayLoseLog, type Parts } from './parts.js';
import type { ReplicaEvents, ReplicaHost } from './replica-host.js';
import { Violation } from './violation.js';

/**
 * Transitions that report that a replica is wrong. No simulated replica is, whatever happens to it, except for the
 * state of one that went wrong on purpose.
 */
const CONTRADICTIONS: ReadonlySet<string> = new Set(['contradicted', 'state-diverged', 'limits-differ']);

/** What replicas hold under `late: reject`, and by how much clocks drift apart in a run, ns. */
const HELD_NS = 27_000_000;

export class Observation implements ReplicaEvents, ClientHostEvents {
  private readonly statuses: number[];
  /** Replicas that do not know yet what they are, and the members that were committed when they began to ask. */
  private readonly starting = new Map<number, Membership | undefined>();
  /** Replicas that began in these directories when their ids belonged to others, which was not so when they asked. */
  private readonly anothers = new Map<number, string>();
  private processes = 0;
  /** A replica has executed the entry that switches the feature `membership` on. */
  private membersMayChange = false;
  /** How often each endpoint has searched for the members: it asks the machines in turn. */
  private readonly turns = new Map<number, number>();
  private readonly right = new SimulatedClock(0, 0);
  private readonly now = new Instant();

  constructor(private readonly parts: Parts) {
    this.statuses = new Array<number>(parts.replicas).fill(-1);
  }

  // ReplicaEvents

  called(replica: number, event: string): void {
    const { hosts, checks, wrongStates, transitions, queue, driver } = this.parts;
    const host = hosts[replica]!;
    const { state } = host.core!;
    checks.epochs.learn(state.members);
    checks.after(replica, host.probe!);
    this.checkIdentity(host, state);
    if (this.clocksAreRight) this.checkTime(replica, state.log);
    this.checkSwitch(host);
    wrongStates.see(replica);
    transitions?.state(queue.nowUs, replica, event, state);
    // A crash still undoes an installation that is not durable, so the log counts as lost until then.
    if (host.logLost && state.status === ReplicaStatus.normal && host.hasInstalledLog) host.logRegained();
    if (state.status === this.statuses[replica]) return;
    this.statuses[replica] = state.status;
    if (state.status === ReplicaStatus.viewChange) driver.viewChangeSeen(replica);
  }

  /** Rule *switched on last*: when members can change, no listed host that runs speaks a version that cannot say so. */
  private checkSwitch({ id, core }: ReplicaHost): void {
    const { upgrade, hosts } = this.parts;
    const isOn = (core!.state.execution.features & Feature.membership) !== 0;
    if (upgrade === undefined || this.membersMayChange || !isOn) return;
    this.membersMayChange = true;
    for (const host of hosts)
      if (host.isUp && isListed(this.parts, host) && host.wireVersion < MEMBERS_WIRE_VERSION)
        throw new Violation(
          'switched-on-last',
          `replica ${id} switched the members on, and replica ${host.id} speaks version ${host.wireVersion} of the wire`,
        );
  }

  /**
   * Rule C7. A replica does not begin with an empty directory once its id belongs to another one, by an entry that was
   * committed before it asked: one of those that it heard had that in its log. If the entry came later, it takes up no log.
   */
  private checkIdentity(host: ReplicaHost, { status, starting }: SimulatedReplicaCore['state']): void {
    const { members } = this.parts.epochs;
    const { id } = host;
    if (starting) {
      if (!this.starting.has(id)) this.starting.set(id, members);
      return;
    }
    if (this.starting.has(id)) {
      const before = this.starting.get(id);
      this.starting.delete(id);
      if (before !== undefined && host.isAnothers(before))
        this.isAnothers(host, before, 'begins with an empty directory');
      if (members !== undefined && host.isAnothers(members)) this.anothers.set(id, keyOf(host));
    }
    if (status === ReplicaStatus.normal && this.anothers.get(id) === keyOf(host))
      this.isAnothers(host, members!, 'takes up a log in a directory that was empty');
  }

  private isAnothers({ id, hostId }: ReplicaHost, { index }: Membership, what: string): never {
    throw new Violation(
      'promise-kept',
      `replica ${id} ${what} as host ${hostId}, whose directory is another one by entry ${index}`,
    );
  }

  private get clocksAreRight(): boolean {
    const { plan, world } = this.parts;
    return !plan.faults.has('clock') && world.clocks === undefined;
  }

  private checkTime(replica: number, log: LogView): void {
    const { plan, queue } = this.parts;
    const { now } = this;
    this.right.read(queue.nowUs, now);
    const last = log.lastIndex;
    const aheadNs = differenceU64(log.timestampHi(last), log.timestampLo(last), now.wallHi, now.wallLo);
    if (aheadNs > HELD_NS + plan.clockSpreadNs)
      throw new Violation(
        'not-ahead',
        `the log of replica ${replica} ends at ${last}, in a key that is ${aheadNs / 1e6} ms ahead`,
      );
  }

  started(replica: number, logLost: boolean, wireVersion: number): void {
    const { hosts, checks, tally, driver } = this.parts;
    this.starting.delete(replica);
    if (this.anothers.get(replica) !== keyOf(hosts[replica]!)) this.anothers.delete(replica);
    checks.started(replica, hosts[replica]!.core!.state, hosts[replica]!.hostId);
    this.statuses[replica] = -1;
    tally.started(replica);
    this.note(replica, `${logLost ? 'starts without its log' : 'starts'}, speaks version ${wireVersion}`);
    driver.restarted(replica);
  }

  crashed(replica: number, fate: LogFate): void {
    const { checks, tally, transitions, queue } = this.parts;
    tally.crashes++;
    if (fate === 'lost') tally.logsLost++;
    checks.stopped(replica);
    this.note(replica, `crashes, its log is ${fate}`);
    transitions?.down(queue.nowUs, replica, 'crash');
  }

  sent(endpoint: number, to: number, bytes: Uint8Array, offset: number, length: number): void {
    const { replicas, checks, trace, queue, ambush, network } = this.parts;
    if (endpoint < replicas) {
      const members = this.parts.hosts[endpoint]!.core?.state.members;
      if (members !== undefined) checks.epochs.learn(members);
      checks.sent(endpoint, bytes, offset);
    }
    trace?.message(queue.nowUs, '->', endpoint, to, bytes, offset, length);
    ambush?.see(endpoint, 'sent', typeOf(bytes, offset), network.endpointOf(to), '');
  }

  received(endpoint: number, from: number, bytes: Uint8Array, offset: number, length: number): void {
    const { trace, queue, ambush } = this.parts;
    trace?.message(queue.nowUs, '=>', from, endpoint, bytes, offset, length);
    ambush?.see(endpoint, 'received', typeOf(bytes, offset), from, '');
  }

  transition(replica: number, event: string, detail: string): void {
    const { wrongStates, ambush, checks } = this.parts;
    this.note(replica, `${event} ${detail}`);
    if (event === 'begin-epoch') checks.look(replica);
    if (CONTRADICTIONS.has(event) && !(event === 'state-diverged' && wrongStates.named(replica, detail)))
      throw new Violation('contradiction', `replica ${replica}: ${event}: ${detail}`);
    ambush?.see(replica, 'transition', -1, -1, event);
  }

  snapshots(replica: number): void {
    this.parts.checks.look(replica);
  }

  diverged(replica: number): { readonly fate: LogFate; readonly downUs: number } {
    const { hosts, wrongStates, tally, plan, diverging } = this.parts;
    const host = hosts[replica]!;
    wrongStates.stopped++;
    tally.remember(host);
    const fate: LogFate = plan.durability === 'memory' || mayLoseLog(this.parts, host) ? 'lost' : 'kept';
    this.note(replica, `stops itself: its state is marked with ${host.probe!.mark}`);
    return { fate, downUs: diverging!.returnUs() };
  }

  refused(replica: number): void {
    const { hosts, tally } = this.parts;
    const host = hosts[replica]!;
    this.note(replica, `stops: its directory is not, or no more, the one of host ${host.hostId}`);
    if (!host.hasForgotten && !host.isGivenUp && isListed(this.parts, host))
      throw new Violation('core-exception', `replica ${replica} stops though it never lost its directory`);
    tally.refusedStops++;
    tally.remember(host);
  }

  forgotten(replica: number, error: ForgottenError): void {
    const { hosts, tally } = this.parts;
    this.note(replica, `stops: ${error.message}`);
    if (!hosts[replica]!.hasForgotten)
      throw new Violation(
        'core-exception',
        `replica ${replica} stops though it never lost its directory: ${error.message}`,
        { cause: error },
      );
    tally.forgottenStops++;
    tally.remember(hosts[replica]!);
  }

  // ClientHostEvents

  newProcess(): number {
    return this.processes++;
  }

  committed(sessionHi: number, sessionLo: number, lane: number, request: number): void {
    this.parts.checks.clientCommitted(sessionHi, sessionLo, lane, request);
  }

  isForHost(from: number, to: number): boolean {
    const { hosts, memberOperator } = this.parts;
    if (memberOperator === undefined || from >= hosts.length) return true;
    const idAt = (knower: number, slot: number): number | undefined =>
      hosts[knower]!.core?.state.members.hosts.find((host) => host.slot === slot)?.id;
    const { core } = hosts[to]!;
    if (core === undefined) return true;
    // It is not listed, or another one in its place: a stranger, which is asked who it is.
    if (idAt(to, from) !== hosts[from]!.hostId) {
      hosts[to]!.hearsStranger(from);
      return false;
    }
    const meant = idAt(from, to);
    return meant === undefined || meant === hosts[to]!.hostId;
  }

  /** One question and its answer, as long as the fault lets them through. */
  unknownEpoch(endpoint: number, from: number, take: (members: Uint8Array) => void): void {
    const { hosts, queue, network, memberOperator } = this.parts;
    if (memberOperator === undefined || from >= hosts.length || network.isCut(endpoint, from)) return;
    const afterUs = memberOperator.answerUs();
    if (afterUs === Infinity) return;
    queue.schedule(
      queue.nowUs + afterUs,
      {
        handle: () => {
          const members = hosts[from]!.core?.state.members;
          if (members === undefined || members.index === 0) return;
          this.note(endpoint, `is told the members by ${from}, those of entry ${members.index}`);
          take(encodeMembership(members));
        },
      },
      0,
      undefined,
    );
  }

  searchMembers(endpoint: number, take: (members: Uint8Array) => void): void {
    const turn = this.turns.get(endpoint) ?? 0;
    this.turns.set(endpoint, turn + 1);
    this.unknownEpoch(endpoint, turn % this.parts.hosts.length, take);
  }

  private note(endpoint: number, text: string): void {
    this.parts.trace?.note(this.parts.queue.nowUs, endpoint, text);
  }
}

function keyOf({ identity: { identityHi, identityLo } }: ReplicaHost): string {
  return `${identityHi}.${identityLo}`;
}
