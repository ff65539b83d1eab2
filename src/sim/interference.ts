/** What the drivers of faults can do to a run: to processes, links, clocks and disks. */
import type { FirstStart } from '../protocol/contract.js';
import { count } from '../protocol/masks.js';
import { ReplicaStatus } from '../wire/messages.js';
import type { AmbushTargets } from './ambush.js';
import type { BeginningTargets } from './beginnings.js';
import type { LogFate } from './disk.js';
import type { DivergingTargets } from './diverging.js';
import type { FaultTargets } from './faults.js';
import type { MishapTargets } from './mishaps.js';
import type { Hold, HoldMode } from './network.js';
import type { OperatorTargets } from './operator.js';
import { isListed, mayLoseLog, type Parts } from './parts.js';
import type { UpgradeTargets } from './upgrade.js';
import { WIRE_VERSION } from '../wire/versions.js';
import type { WorldTargets } from './world-driver.js';

export class Interference
  implements
    FaultTargets,
    AmbushTargets,
    WorldTargets,
    MishapTargets,
    DivergingTargets,
    BeginningTargets,
    OperatorTargets,
    UpgradeTargets
{
  readonly replicas: number;
  readonly endpoints: number;

  constructor(private readonly parts: Parts) {
    this.replicas = parts.replicas;
    this.endpoints = parts.endpoints;
  }

  // processes

  isUp(replica: number): boolean {
    return this.parts.hosts[replica]!.isUp;
  }

  crash(replica: number, hostCrash: boolean, downUs: number): void {
    const { hosts, plan, tally } = this.parts;
    const host = hosts[replica]!;
    const fate: LogFate = plan.durability === 'memory' || (plan.durability === 'os' && hostCrash) ? 'lost' : 'kept';
    if (!host.isUp || (fate === 'lost' && !host.isEmpty && !mayLoseLog(this.parts, host))) return;
    tally.remember(host);
    host.crash(fate, downUs);
  }

  begin(replica: number): void {
    const host = this.parts.hosts[replica]!;
    if (host.mayBegin) host.start();
  }

  loseDirectory(replica: number, downUs: number, first: FirstStart): boolean {
    const { hosts, tally, trace, queue } = this.parts;
    const host = hosts[replica]!;
    if (!host.isUp || host.isEmpty || !mayLoseLog(this.parts, host)) return false;
    trace?.note(queue.nowUs, replica, `is about to lose its directory, then to start with '${first}'`);
    tally.remember(host);
    tally.directoriesLost++;
    host.crash('lost', downUs, first);
    return true;
  }

  /** The host of a slot burns down, unless that would lose too many logs. */
  burn(replica: number): void {
    const { hosts, tally, trace, queue, worldDriver } = this.parts;
    const host = hosts[replica]!;
    // A replica that is cut off for good is as good as lost.
    if (!host.isUp || worldDriver.cutStays || !mayLoseLog(this.parts, host)) return;
    trace?.note(queue.nowUs, replica, 'burns down');
    tally.remember(host);
    tally.directoriesLost++;
    host.burn();
  }

  /** The operator lists for the host of a slot an identity that no directory has. False if that would lose too many logs. */
  giveUp(replica: number): boolean {
    const { hosts, trace, queue, worldDriver } = this.parts;
    const host = hosts[replica]!;
    // One that burnt down counts as lost already, and nothing else can be done about it.
    if (!host.isBurnt && (worldDriver.cutStays || !mayLoseLog(this.parts, host))) return false;
    trace?.note(queue.nowUs, replica, 'is given up by the operator');
    host.isGivenUp = true;
    return true;
  }

  /** The disks of all that were hosts, and are none any more, are gone. */
  wipeFormerHosts(): void {
    const { hosts, epochs, tally } = this.parts;
    const { members } = epochs;
    if (members === undefined) return;
    for (const host of hosts) {
      const isListed = members.hosts.some(({ id, slot }) => slot === host.id && id === host.hostId);
      if (isListed || host.hostId === undefined) continue;
      if (host.isUp) tally.remember(host);
      host.burn();
    }
  }

  giveSlotAgain(slot: number): void {
    this.parts.memberOperator?.giveAgain(slot);
  }

  goWrong(replica: number, mark: number): boolean {
    const host = this.parts.hosts[replica]!;
    if (!host.isUp || !mayLoseLog(this.parts, host)) return false;
    host.probe!.nextMark = mark;
    return true;
  }

  stopCleanly(replica: number, type: number, downUs: number): void {
    const { hosts, plan, tally } = this.parts;
    const host = hosts[replica]!;
    const fate: LogFate = plan.durability === 'memory' ? 'lost' : 'kept';
    if (!host.isUp || (fate === 'lost' && !mayLoseLog(this.parts, host))) return;
    tally.remember(host);
    host.stopCleanly(fate, type, downUs);
  }

  pause(endpoint: number, forUs: number): void {
    this.noteAt(endpoint, `stands still for ${Math.round(forUs)}`);
    if (endpoint < this.replicas) this.parts.hosts[endpoint]!.pause(forUs);
    else this.parts.clients[endpoint - this.replicas]!.pause(forUs);
  }

  setSlowness(replica: number, factor: number): void {
    this.parts.hosts[replica]!.slowness = factor;
  }

  restart(endpoint: number, downUs: number): boolean {
    const { hosts, clients } = this.parts;
    if (endpoint >= this.replicas) {
      if (clients[endpoint - this.replicas]!.wireVersion < WIRE_VERSION) this.restartClient(endpoint);
      return true;
    }
    const host = hosts[endpoint]!;
    if (!host.isUp || host.wireVersion === WIRE_VERSION) return true;
    this.stopCleanly(endpoint, -1, downUs);
    return false;
  }

  restartClient(endpoint: number): void {
    this.noteAt(endpoint, 'comes back with a new session');
    this.parts.clients[endpoint - this.replicas]!.start();
  }

  allHaveLogs(): boolean {
    const { hosts, memberOperator } = this.parts;
    if (memberOperator === undefined) return hosts.every((host) => host.isUp && !host.countsAsLost);
    return (
      memberOperator.isAtRest && hosts.every((host) => !isListed(this.parts, host) || (host.isUp && !host.countsAsLost))
    );
  }

  canSpare(replica: number): boolean {
    const { hosts, epochs } = this.parts;
    const gone = hosts.reduce((mask, { id, isBurnt }) => (isBurnt ? mask | (1 << id) : mask), 1 << replica);
    return epochs.present().every(({ f, voters }) => count(gone & voters) <= f);
  }

  quorum(): readonly number[] | undefined {
    const { hosts, epochs } = this.parts;
    let found: number[] | undefined;
    let highest = -1;
    for (const { id, core } of hosts) {
      if (
        core === undefined ||
        core.state.status !== ReplicaStatus.normal ||
        core.state.view <= highest ||
        epochs.primary(core.state.view) !== id
      )
        continue;
      highest = core.state.view;
      found = [id, ...epochs.membersOf(highest).filter((member) => member !== id)];
    }
    return found;
  }

  // links

  setBlocked(from: number, to: number, blocked: boolean, cause?: number): void {
    this.parts.network.setBlocked(from, to, blocked, cause);
  }

  setLinkFactor(from: number, to: number, factor: number): void {
    this.parts.network.setLinkFactor(from, to, factor);
  }

  move(endpoint: number): void {
    this.parts.network.move(endpoint);
  }

  hold(from: number, to: number, types: ReadonlySet<number>, mode: HoldMode): Hold {
    return this.parts.network.hold(from, to, types, mode);
  }

  deliverHeld(hold: Hold, count: number): void {
    this.parts.network.deliverHeld(hold, count);
  }

  discardHeld(hold: Hold): void {
    this.parts.network.discardHeld(hold);
  }

  letGo(hold: Hold): void {
    this.parts.network.letGo(hold);
  }

  // clocks and disks

  setClock(endpoint: number, offsetNs: number, driftPpm: number): void {
    this.noteAt(endpoint, `clock off by ${Math.round(offsetNs)} ns, drifts by ${driftPpm.toFixed(1)} ppm`);
    this.parts.clocks[endpoint]!.set(offsetNs, driftPpm);
  }

  stepClock(endpoint: number, byNs: number): void {
    this.noteAt(endpoint, `clock jumps by ${Math.round(byNs)} ns`);
    this.parts.clocks[endpoint]!.step(byNs);
  }

  setDate(endpoint: number, aheadS: number): void {
    this.parts.clocks[endpoint]!.setDate(aheadS);
  }

  freezeClock(endpoint: number): void {
    this.noteAt(endpoint, 'clock stands still');
    this.parts.clocks[endpoint]!.freeze(this.parts.queue.nowUs);
  }

  thawClock(endpoint: number): void {
    this.parts.clocks[endpoint]!.thaw();
  }

  rot(replica: number): void {
    this.parts.disks[replica]!.rot();
  }

  note(text: string): void {
    this.noteAt(-1, text);
  }

  private noteAt(endpoint: number, text: string): void {
    this.parts.trace?.note(this.parts.queue.nowUs, endpoint, text);
  }
}
