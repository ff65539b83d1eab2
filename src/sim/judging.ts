/**
 * The end of a run: all faults end, and everything must work again within a given time. Then the machines of all
 * replicas are compared, and what the clients saw is judged.
 */
import { KNOWN_FEATURES } from '../protocol/log/features.js';
import { ReplicaStatus } from '../wire/messages.js';
import type { Delivery } from './delivery.js';
import { isListed, type Parts } from './parts.js';
import type { ReplicaHost } from './replica-host.js';
import { Violation, type InvariantName } from './violation.js';

/** Operations that each client must commit in the liveness phase. */
export const FRESH_OPERATIONS = 3;
/** How often the liveness phase checks its goals, ticks. */
const GOAL_CHECK_TICKS = 2000;

/**
 * All faults end: links intact, clocks right, every process up.
 * @param idle clients start only now
 */
export function heal(parts: Parts, delivery: Delivery, idle: boolean): void {
  const { trace, queue, driver, ambush, mishaps, diverging, network, plan, world, ticks } = parts;
  trace?.note(queue.nowUs, -1, 'all faults end');
  delivery.healed = true;
  driver.stop();
  ambush?.stop();
  mishaps.stop();
  diverging?.stop();
  network.heal();
  network.setConditions({
    ...plan.network,
    delay: 'log-normal',
    spread: 0.3,
    loss: 0,
    duplicate: 0,
    corrupt: 0,
    reorder: 0,
  });
  for (const disk of parts.disks) disk.setConditions({ ...plan.disk, hiccup: 0 });
  for (const clock of parts.clocks) clock.set(0, 0);
  parts.beginnings.faultsEnd();
  for (const host of parts.hosts)
    host.heal((world.firstStarts?.startsAtUs[host.id] ?? 0) <= ticks || host.hostIds.length > 1);
  for (const client of parts.clients) client.heal();
  parts.operator?.heal();
  parts.worldDriver.faultsEnd();
  parts.enemy?.faultsEnd();
  if (idle) startClients(parts);
  else for (const endpoint of world.newcomers) parts.clients[endpoint - parts.replicas]!.start(true);
}

export function startClients({ clients }: Parts): void {
  for (const client of clients) {
    client.start();
    client.setPace();
  }
}

/** Runs until every client has committed fresh operations, then until all is quiet and every replica has caught up. */
export function awaitGoals(parts: Parts): void {
  const { clients, hosts, checks, operator } = parts;
  runUntil(parts, 'a client commits nothing fresh', () =>
    clients.every((client) => client.counts.fresh >= FRESH_OPERATIONS),
  );
  if (operator !== undefined) runUntil(parts, 'no feature is switched on', () => operator.hasSwitched);
  parts.worldDriver.stop();
  parts.enemy?.stop();
  if (parts.diverging !== undefined)
    runUntil(
      parts,
      'a replica with a wrong state goes on unnoticed',
      () => parts.wrongStates.areNoticed(),
      'divergence-noticed',
    );
  if (parts.memberOperator !== undefined) {
    const { memberOperator } = parts;
    memberOperator.stop();
    runUntil(parts, 'a change of members does not end', () => memberOperator.isDone);
  }
  const all = operator === undefined ? clients : [...clients, operator.host];
  for (const client of all) client.finish();
  runUntil(parts, 'an operation does not end', () => all.every((client) => client.isIdle));
  const isHost = (host: ReplicaHost): boolean => isListed(parts, host);
  runUntil(parts, 'a replica does not catch up', () => {
    const listed = hosts.filter(isHost);
    // A primary without others tells nobody of the entry that begins its epoch, so nothing shows yet that it is chosen.
    const alone = listed.filter(
      ({ id, core }) => core !== undefined && parts.epochs.memberMask(core.state.view) === 1 << id,
    );
    const length = Math.max(checks.chosenLength, ...alone.map(({ core }) => core!.state.committed));
    // A log may end in an entry that its client gave up before the primary took it: it disappears with the next one
    // that differs.
    return listed.every(({ core }) => {
      // A wrong replica may just have stopped; another one may return only now.
      if (core === undefined) return false;
      const { status, committed, executed } = core.state;
      return status === ReplicaStatus.normal && executed === committed && committed === length;
    });
  });
}

function runUntil(
  { queue, ticks, livenessTicks }: Parts,
  complaint: string,
  reached: () => boolean,
  invariant: InvariantName = 'stuck',
): void {
  const deadline = ticks + livenessTicks;
  while (!reached()) {
    const until = queue.nowUs + GOAL_CHECK_TICKS;
    if (until > deadline)
      throw new Violation(invariant, `${complaint}, ${livenessTicks / 1e6} s after the faults have ended`);
    while (queue.step(until));
  }
}

/** Call it when every replica has executed the whole chosen log. */
export function compareMachines(parts: Parts): void {
  const { checks, operator } = parts;
  const [first, ...others] = parts.hosts.filter((host) => isListed(parts, host));
  const expected = first!.probe!.state();
  const table = tableOf(first!);
  const { features } = first!.core!.state.execution;
  for (const other of others) {
    const actual = other.probe!.state();
    if (!sameBytes(actual, expected)) {
      throw new Violation(
        'snapshots-equal',
        `replicas ${first!.id} and ${other.id} executed the same ${checks.chosenLength} entries and hold different states`,
      );
    }
    if (other.core!.state.execution.features !== features || !sameBytes(tableOf(other), table))
      throw new Violation(
        'snapshots-equal',
        `replicas ${first!.id} and ${other.id} executed the same ${checks.chosenLength} entries and hold different tables of sessions, or features`,
      );
  }
  if (operator?.hasSwitched === true && features !== KNOWN_FEATURES)
    throw new Violation('snapshots-equal', 'a feature that the operator switched on is off');
}

/** The session table as a snapshot holds it. */
function tableOf({ core }: ReplicaHost): Uint8Array {
  const { sessions } = core!.state.execution;
  const bytes = new Uint8Array(sessions.encodedLength());
  sessions.write(bytes, 0);
  return bytes;
}

function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, i) => byte === b[i]);
}
