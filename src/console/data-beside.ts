/** The default data directory of a replica: beside its cluster file, apart from those of other clusters there. */
import { existsSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { loadHash } from '../native/hash64.js';
import { loadCluster } from '../host/cluster-config.js';
import { prefixBeside } from '../host/keyring.js';
import { HARD_STATE_FILE, ownerOfHardState } from '../storage/hard-state.js';
import { readRegularFile } from '../storage/regular-file.js';

/** More than the file of the promises ever has. */
const HARD_STATE_BYTES_MAX = 1 << 20;

/** `.jitpaxos/replica-0` beside `cluster.json`, `.jitpaxos/monday/replica-0` beside `monday.json`. */
export function dataBeside(clusterFile: string, id: number): string {
  const folder = join(dirname(resolve(clusterFile)), '.jitpaxos');
  const plain = join(folder, `replica-${id}`);
  const prefix = prefixBeside(clusterFile);
  if (prefix === '') return plain;
  const own = join(folder, prefix.slice(0, -1), `replica-${id}`);
  // A directory from before names contained the cluster's: used unless it is known to belong to another cluster.
  return existsSync(own) || !existsSync(plain) || isForeign(plain, clusterFile) ? own : plain;
}

function isForeign(data: string, clusterFile: string): boolean {
  try {
    const owner = ownerOfHardState(readRegularFile(join(data, HARD_STATE_FILE), HARD_STATE_BYTES_MAX), loadHash());
    const { idHi, idLo } = loadCluster(clusterFile);
    return owner !== undefined && (owner.clusterHi !== idHi || owner.clusterLo !== idLo);
  } catch {
    return false; // opening it reports what is wrong with it
  }
}
