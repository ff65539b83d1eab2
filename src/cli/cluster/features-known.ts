/**
 * Which features the replicas know, compared: for `jitpaxos status` and `jitpaxos doctor`. A replica that does not know
 * a feature that is on stops at the entry that switched it on, so an operator should see it before.
 */
import type { ReplicaStatusReport } from '../../host/status.js';

/** A difference that an operator should know of. */
export interface FeatureDifference {
  /** A replica stops because of it. Otherwise it is normal during an upgrade. */
  readonly isFault: boolean;
  /** What differs, and what to do. */
  readonly text: string;
}

type Report = Pick<ReplicaStatusReport, 'id' | 'features'>;

/** Empty if all replicas that answered know the same features. A replica of an earlier version knows none. */
export function featureDifferences(reports: readonly Report[]): readonly FeatureDifference[] {
  const known = (report: Report): readonly string[] => report.features?.known ?? [];
  const on = new Set(reports.flatMap(({ features }) => features?.on ?? []));
  const all = [...new Set([...reports.flatMap(known), ...on])];
  return all.flatMap((name): FeatureDifference[] => {
    const lacking = reports.filter((report) => !known(report).includes(name)).map(({ id }) => id);
    if (lacking.length === 0) return [];
    const who = `${lacking.length === 1 ? 'replica' : 'replicas'} ${lacking.join(', ')}`;
    const verb = lacking.length === 1 ? 'does' : 'do';
    return [
      on.has(name)
        ? {
            isFault: true,
            text: `the feature ${name} is on, and ${who} ${verb} not know it: a replica that does not know it stops with feature-unknown at the entry that switched it on. Start ${lacking.length === 1 ? 'it' : 'them'} with the version that the others run`,
          }
        : {
            isFault: false,
            text: `${who} ${verb} not know the feature ${name}, which others know: normal during an upgrade. It can be switched on when all know it (jitpaxos features list)`,
          },
    ];
  });
}

/** The names of the features that are on, according to the replicas that answered. */
export function featuresOn(reports: readonly Report[]): readonly string[] {
  return [...new Set(reports.flatMap(({ features }) => features?.on ?? []))];
}
