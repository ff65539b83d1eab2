/** The totals of a run, collected when it ends from all of its parts. */
import type { ClientHost } from './client-host.js';
import type { Parts } from './parts.js';
import type { SimulationTotals } from './result.js';

export function totalsOf({
  hosts,
  clients,
  network,
  checks,
  enemy,
  operator,
  memberOperator,
  wrongStates,
  tally,
}: Parts): SimulationTotals {
  for (const host of hosts) if (host.core !== undefined) tally.remember(host);
  const sum = (of: (client: ClientHost) => number): number => clients.reduce((total, client) => total + of(client), 0);
  return {
    messages: hosts.reduce((total, host) => total + host.messages, 0),
    datagrams: network.counts.delivered,
    previousVersion: [...hosts, ...clients].reduce((total, { outbox }) => total + outbox.previousVersion, 0),
    withheld: hosts.reduce((total, { outbox }) => total + outbox.withheld, 0),
    corrupted: network.counts.corrupted,
    commits: sum((client) => client.counts.committed),
    fastCommits: sum((client) => client.counts.fast),
    unknown: sum((client) => client.counts.unknown),
    views: checks.viewsStarted,
    epochs: checks.epochs.begun,
    askedDuringCuts: memberOperator?.askedDuringCuts ?? 0,
    crashes: tally.crashes,
    logsLost: tally.logsLost,
    directoriesLost: tally.directoriesLost,
    forgotten: tally.forgottenStops,
    refused: tally.refusedStops,
    repairs: tally.counter('repairs'),
    held: tally.counter('requests_held'),
    rollbacks: tally.counter('rollbacks'),
    snapshotsInstalled: tally.counter('snapshots_installed'),
    sessionsLost: sum((client) => client.counts.lost),
    sessionsRenewed: sum((client) => client.counts.renewed),
    chosen: checks.chosenLength,
    enemy: enemy?.messages ?? 0,
    astray: network.counts.astray,
    tooLong: network.counts.tooLong,
    ...wrongStates.totals(),
    switched: operator?.hasSwitched === true || memberOperator?.hasSwitched === true ? 1 : 0,
    switchesRefused: memberOperator?.refusals ?? 0,
  };
}
