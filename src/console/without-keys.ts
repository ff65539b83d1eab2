/** A command's warning about a cluster without keys: one line on stderr. */
import type { Cluster } from '../host/cluster-config.js';
import { firstWithoutKeysWarning, WITHOUT_KEYS_REMEDY } from '../host/without-keys.js';
import type { Output } from './command.js';

export function warnWithoutKeys(output: Pick<Output, 'note'>, cluster: Pick<Cluster, 'authentication'>): void {
  const warning = firstWithoutKeysWarning(cluster);
  if (warning !== undefined) output.note(`warning: ${warning}; ${WITHOUT_KEYS_REMEDY}`);
}
