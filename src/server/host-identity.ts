/**
 * Rule S, *C7*: an id means one data directory, for good. A directory speaks under an id only if the list of members has
 * its identity there, or none.
 *
 * It has its identity from its own promises, or from the file `joining` before there are any; never from the list itself:
 * a directory that lost its promises would take whatever is listed for its own.
 */
import { JitPaxosError } from '../errors.js';
import type { ForgottenError } from '../protocol/replica/introduction.js';

/**
 * Throws JitPaxosError `replica-id-taken` if the members list another directory for host `id`.
 * @param listed undefined: none
 * @param own identity of the directory `data`; undefined: it has none yet, or there is no directory
 */
export function refuseTaken(
  id: number,
  listed: string | undefined,
  own: string | undefined,
  data: string | undefined,
): void {
  if (listed === undefined || own === listed) return;
  throw new JitPaxosError(
    'replica-id-taken',
    `host ${id} of this cluster is the data directory with identity ${listed}, and ${data ?? 'this process'} ${own === undefined ? 'has no promises, and no identity' : `has identity ${own}`}; an id belongs to one directory for good. ` +
      `${own === undefined ? 'Put that directory back if you have it; otherwise start' : 'Start'} this host on an empty one with \`jitpaxos replica --join\`, and let it take the place of host ${id} (\`jitpaxos member replace\`)`,
  );
}

/** Host `id` is listed no more, and the directory `data` knows nothing of it. */
export function removed(id: number, epoch: number, data: string | undefined): JitPaxosError {
  return new JitPaxosError(
    'replica-removed',
    `host ${id} is no member of this cluster any more, which is in epoch ${epoch}, and ${data ?? 'this process'} knows nothing of that; an id is never given again. ` +
      'To add this machine again, start it with `jitpaxos replica --join`, and then run `jitpaxos member add`',
  );
}

/** The same error for an operator, who knows of the directory `data`; '': there is none. */
export function forgotten({ replica, by, remembered, incarnation }: ForgottenError, data: string): JitPaxosError {
  const where =
    data === ''
      ? 'this process has no data directory, so it remembers nothing'
      : incarnation === 0
        ? `${data} is empty`
        : remembered > incarnation
          ? `${data} knows of incarnation ${incarnation}: it is an old copy`
          : `${data} was empty when it began`;
  return new JitPaxosError(
    'promises-forgotten',
    `replica ${replica} was in use before: replica ${by} remembers its incarnation ${remembered}, and ${where}. A replica that forgot its promises must not take part; give it its own data directory. ` +
      'If that is lost for good, start it on an empty one with --log-lost (library: logLost); it then takes part as a replica that lost its log. Where jitpaxos member list shows identities, start it with jitpaxos replica --join instead, and let it take its place (jitpaxos member replace)',
  );
}
