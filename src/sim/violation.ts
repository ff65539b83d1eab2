/** What stops a simulation: a broken rule, and what was seen. */

/** Every rule that is checked, by name, with its statement. The table of docs/internals/simulation.md. */
export const INVARIANTS = {
  'chosen-agree': 'committed prefixes of all views form one chain',
  'chosen-stable':
    'a committed prefix is in the log of every normal member of its view and of every replica in a later view',
  'never-lost': 'the log of a later view contains every committed prefix',
  'committed-truthful': 'what a replica takes for committed is committed',
  'acknowledgement-truthful': 'what a replica says of a log is true of one that exists',
  'one-start': 'what the primary of a view says of its log only ever grows within the view',
  'executed-agree': 'replicas execute the same operations with the same results at the same indexes',
  'executed-once': 'a machine sees every index once, in order',
  'at-most-once': 'no log holds a request twice',
  'key-order': 'every log is in key order',
  'not-ahead': 'where all clocks are right, no log ends in a key that is ahead of its time by more than is held',
  'hash-collision': 'one chain value stands for one log',
  'client-result': 'what a client was told is committed is in the committed chain',
  'promise-kept': 'durable view, logView and incarnation never go back',
  'members-first': 'no promise is durable of an epoch that the members on the disk do not decide',
  'switched-on-last': 'members can change only when every listed host that runs speaks the version that can say so',
  linearizable: 'the history that clients saw is linearizable',
  'snapshots-equal': 'machines that executed the same prefix have the same state',
  contradiction:
    'no replica says what cannot be beside what another has committed, nor has another state or other limits',
  'divergence-noticed':
    'a replica whose state differs from that of the others is named by one of them, and stops itself when f + 1 have another',
  'core-invariant': 'the core found one of its own invariants broken',
  'core-exception': 'a core never throws anything but InvariantError',
  stuck: 'after the faults have ended, every client commits fresh operations and every replica catches up in time',
} as const;

export type InvariantName = keyof typeof INVARIANTS;

export class Violation extends Error {
  constructor(
    readonly invariant: InvariantName,
    readonly detail: string,
    options?: ErrorOptions,
  ) {
    super(`${invariant}: ${detail}`, options);
    this.name = 'Violation';
  }
}
