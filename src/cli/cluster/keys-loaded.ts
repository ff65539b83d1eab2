/**
 * Which keys the replicas have loaded, compared: for `jitpaxos status`, so that an operator sees when the next step of a
 * rotation may follow, and for `jitpaxos doctor`. A replica that does not say which keys it has is left out, and named
 * as unknown.
 */
import type { ReplicaStatusReport } from '../../host/status.js';

/** More ids than this are counted, not listed. */
const LISTED_MAX = 8;

/** Replicas that have loaded the same keys and use the same one. */
export interface KeyGroup {
  readonly replicas: readonly number[];
  readonly use: number;
  readonly loaded: readonly number[];
  readonly fingerprint: string;
}

export interface KeyDifference {
  /** Whether replicas refuse datagrams of others because of it; otherwise it is a step of a rotation. */
  readonly isFault: boolean;
  readonly text: string;
}

type Report = Pick<ReplicaStatusReport, 'id' | 'keys'>;

/** In the order of the first replica of each group. Empty in a cluster without keys. */
export function keyGroups(reports: readonly Report[]): readonly KeyGroup[] {
  const groups = new Map<string, KeyGroup & { readonly replicas: number[] }>();
  for (const { id, keys } of reports) {
    if (keys === undefined || keys === null) continue;
    const name = `${keys.use} ${keys.fingerprint} ${keys.loaded.join(' ')}`;
    const group = groups.get(name);
    if (group === undefined) groups.set(name, { replicas: [id], ...keys });
    else group.replicas.push(id);
  }
  return [...groups.values()];
}

/** `keys of replicas 0, 1, 2: 7 (in use), 9` */
export function keyLines(reports: readonly Report[]): string[] {
  const groups = keyGroups(reports);
  const silent = reports.filter(({ keys }) => keys === undefined).map(({ id }) => id);
  return [
    ...groups.map(
      ({ replicas, use, loaded }) =>
        `keys of ${named(replicas)}: ${listed([`${use} (in use)`, ...loaded.filter((id) => id !== use).map(String)])}`,
    ),
    ...(groups.length > 0 && silent.length > 0
      ? [`keys of ${named(silent)}: unknown, an earlier version does not say`]
      : []),
  ];
}

/** What differs, and what to do. Empty if nothing does. */
export function keyDifferences(reports: readonly Report[]): readonly KeyDifference[] {
  const groups = keyGroups(reports);
  if (groups.length < 2) return [];
  const used = new Set(groups.map(({ use }) => use));
  const all = [...new Set(groups.flatMap(({ loaded }) => loaded))].sort((a, b) => a - b);
  const lacking = new Map<string, { readonly ids: readonly number[]; readonly replicas: number[] }>();
  for (const { replicas, loaded } of groups) {
    const has = new Set(loaded);
    const ids = all.filter((id) => !has.has(id));
    if (ids.length === 0) continue;
    const known = lacking.get(ids.join(' '));
    if (known === undefined) lacking.set(ids.join(' '), { ids, replicas: [...replicas] });
    else known.replicas.push(...replicas);
  }
  const differences = [...lacking.values()].map(({ ids, replicas }): KeyDifference => {
    const missed = ids.filter((id) => used.has(id));
    const who = named(replicas.sort((a, b) => a - b));
    const lacks = `${who} ${replicas.length === 1 ? 'lacks' : 'lack'} ${keyNames(ids)}`;
    return missed.length === 0
      ? {
          isFault: false,
          text: `${lacks}, which others have: copy the newest replica.keys there and send SIGHUP, before the next step of a rotation`,
        }
      : {
          isFault: true,
          text: `${lacks}, and other replicas write under ${keyNames(missed)}: it refuses what they send. Copy the newest replica.keys there and send SIGHUP`,
        };
  });
  const byIds = new Map<string, Map<string, number[]>>();
  for (const { replicas, loaded, fingerprint } of groups) {
    const prints = byIds.get(loaded.join(' ')) ?? new Map<string, number[]>();
    prints.set(fingerprint, [...(prints.get(fingerprint) ?? []), ...replicas]);
    byIds.set(loaded.join(' '), prints);
  }
  for (const prints of byIds.values()) {
    if (prints.size < 2) continue;
    const found = [...prints].map(([fingerprint, replicas]) => `${named(replicas)}: ${fingerprint}`).join('; ');
    differences.push({
      isFault: true,
      text: `the same key ids have other secrets, roles or owners (fingerprints: ${found}): give all replicas the same replica.keys and send SIGHUP`,
    });
  }
  if (used.size > 1 && differences.every(({ isFault }) => !isFault))
    differences.push({
      isFault: false,
      text: `the replicas write under different keys (${groups
        .map(({ use, replicas }) => `${use}: ${named(replicas)}`)
        .join('; ')}): normal while the key is changed; let all read replica.keys again before the old key is removed`,
    });
  return differences;
}

function keyNames(ids: readonly number[]): string {
  return `${ids.length === 1 ? 'key' : 'keys'} ${listed(ids.map(String))}`;
}

function named(replicas: readonly number[]): string {
  return `${replicas.length === 1 ? 'replica' : 'replicas'} ${replicas.join(', ')}`;
}

function listed(ids: readonly string[]): string {
  return ids.length <= LISTED_MAX
    ? ids.join(', ')
    : `${ids.slice(0, LISTED_MAX).join(', ')} and ${ids.length - LISTED_MAX} more`;
}
