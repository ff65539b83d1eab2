/**
 * `jitpaxos replica --join`: which host a data directory belongs to. An empty one belongs to nobody yet: the process waits
 * until an operator adds it, and the log gives it an id.
 *
 * The rule: nothing but the list of members that has the directory's identity says who it is. That list is written to the
 * directory before the replica starts, and the replica starts with it: so it knows that it is new.
 */
import { CliError } from '../../console/exit.js';
import { JitPaxosError } from '../../errors.js';
import { addressText, loadCluster } from '../../host/cluster-config.js';
import { loadHash } from '../../native/hash64.js';
import { DirectoryFiles } from '../../storage/files.js';
import { readMembers, writeMembers } from '../../storage/members-file.js';
import { WaitingHost, type WaitingOptions } from './waiting-host.js';

export interface JoinOptions extends Omit<WaitingOptions, 'listen'> {
  readonly cluster: string;
  /** Undefined: it was not given, which is right for a directory that belongs to a host. */
  readonly listen: WaitingOptions['listen'] | undefined;
  /** Called when the process can be added. */
  readonly waits: (identity: string, address: string) => void;
}

/**
 * The id of the host whose directory this is; undefined if the wait was ended by `signal`.
 *
 * Throws JitPaxosError `replica-removed`: the host is listed no more; CliError `flag-invalid`; and the errors of WaitingHost.
 */
export async function joinedId(options: JoinOptions, signal: AbortSignal): Promise<number | undefined> {
  const { data, listen } = options;
  const cluster = loadCluster(options.cluster);
  const hash = loadHash();
  const files = new DirectoryFiles(data);
  const owner = { clusterHi: cluster.idHi, clusterLo: cluster.idLo };
  const before = await WaitingHost.idIn(data, cluster);
  if (before !== undefined) {
    const members = await readMembers(files, { owner, hash, directory: data });
    if (members !== undefined && members.index > 0 && members.hosts.every(({ id }) => id !== before))
      throw new JitPaxosError(
        'replica-removed',
        `${data} is that of host ${before}, which is no member any more since epoch ${members.started}; to add this machine again, give an empty directory. ` +
          `To let the old host run on, and lead others to the members, start it with --cluster FILE --id ${before} --listen HOST:PORT, its former address, in place of --join`,
      );
    return before;
  }
  if (listen === undefined)
    throw new CliError(
      'flag-invalid',
      '--listen is missing; give HOST:PORT, at which the other hosts will reach this one',
    );
  await using waiting = await WaitingHost.open({ ...options, listen });
  const stop = (): void => void waiting.close();
  signal.addEventListener('abort', stop, { once: true });
  try {
    if (signal.aborted) return undefined;
    options.waits(waiting.identity, addressText(listen));
    const added = await waiting.added();
    if (added === undefined) return undefined;
    await writeMembers(files, added.list, owner, hash);
    return added.id;
  } finally {
    signal.removeEventListener('abort', stop);
  }
}
