/** How a replica's transitions are logged: each once, with where the replica stands, and what an operator should do. */
import type { Logger } from '../host/logger.js';
import type { ReplicaCore } from '../protocol/replica/replica-core.js';
import { REPLICA_STATUS_NAMES } from '../wire/messages.js';

/** Transitions that an operator must know about, and what to do, if they do not say so themselves. */
const WARNINGS: Readonly<Record<string, string | undefined>> = {
  'majority-lost': undefined,
  contradicted: undefined,
  'state-diverged': undefined,
  'limits-differ': undefined,
  'snapshot-too-long': 'keep less in the state machine: the replica that needs the snapshot cannot catch up',
  unheard: 'check the network of this host: others may hear it while it hears too few of them',
  'clock-off':
    'set that clock right (jitpaxos clock read on its host, jitpaxos doctor). The cluster continues, if possible without that replica in its quorum',
  'gone-wrongly':
    'find out which hosts can send ICMP messages to this one: the messages may be forged, or a router on the path sometimes answers for that replica',
  removed: 'stop this replica; its data directory is not needed any more',
  'chain-differs':
    'give both the same replica.keys and cluster file: jitpaxos doctor shows which replicas have which chain',
};

/**
 * The observer of a core.
 * @param core undefined before it is made
 * @param heard called with the name of each transition
 */
export function transitionLogger(
  id: number,
  logger: Logger,
  core: () => ReplicaCore | undefined,
  heard: (event: string) => void,
): { transition(event: string, detail: string): void } {
  return {
    transition: (event, detail) => {
      heard(event);
      const fields = { replica: id, ...transitionState(core()), detail };
      const next = WARNINGS[event];
      if (event === 'cluster-differs')
        logger.error('cluster.differs', {
          ...fields,
          next: 'use the same cluster file on all hosts, then restart the replica whose file was wrong',
        });
      else if (event in WARNINGS) logger.warn(`replica.${event}`, next === undefined ? fields : { ...fields, next });
      else logger.info(`replica.${event}`, fields);
    },
  };
}

/** State of the core that a transition is reported with; empty before the core has started. */
export function transitionState(core: ReplicaCore | undefined): { readonly view?: number; readonly status?: string } {
  return core === undefined ? {} : { view: core.state.view, status: REPLICA_STATUS_NAMES[core.state.status] ?? '' };
}
