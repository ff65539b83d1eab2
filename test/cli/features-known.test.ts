// What status and doctor say when replicas know different features.
import t from 'tap';
import { knownFeatures } from '../../src/cli/doctor/cluster-checks.js';
import { summarize } from '../../src/cli/cluster/summary.js';
import type { ReplicaStatusReport } from '../../src/host/status.js';
import { REPORT } from '../fuzz/report.js';

type Features = NonNullable<ReplicaStatusReport['features']>;
const features = (known: readonly string[], on: readonly string[] = []): Features => ({ known, on });
const reports = (...each: (Features | undefined)[]): { id: number; features?: Features }[] =>
  each.map((one, id) => (one === undefined ? { id } : { id, features: one }));

const CASES: readonly [what: string, reports: ReturnType<typeof reports>, level: string, words: RegExp][] = [
  ['none of an earlier version', reports(undefined, undefined), 'ok', /know the same; on: none/],
  ['all alike', reports(features(['a', 'b'], ['a']), features(['a', 'b'], ['a'])), 'ok', /know the same; on: a$/],
  ['one is behind in the log', reports(features(['a'], ['a']), features(['a'])), 'ok', /know the same; on: a$/],
  [
    'during an upgrade',
    reports(features(['a']), undefined, features([])),
    'warn',
    /^replicas 1, 2 do not know the feature a, which others know: normal during an upgrade/,
  ],
  [
    'one that is on is unknown to one',
    reports(features(['a'], ['a']), features(['a'], ['a']), features([])),
    'fail',
    /^the feature a is on, and replica 2 does not know it: .*feature-unknown.*Start it with the version/,
  ],
];

t.test('doctor tells an upgrade from a replica that will stop', (t) => {
  for (const [what, given, level, words] of CASES) {
    const findings = knownFeatures(given);
    t.same(
      findings.map(({ level }) => level),
      [level],
      what,
    );
    t.match(findings[0]!.found, words, what);
  }
  t.same(knownFeatures([]), [], 'nobody answers: nothing is said');
  t.end();
});

t.test('status has the same as remarks', (t) => {
  const { features: _, ...plain } = REPORT;
  for (const [what, given, level, words] of CASES) {
    const answers = given.map((each) => ({
      id: each.id,
      address: `127.0.0.1:${7000 + each.id}`,
      report: { ...plain, ...each },
      roundTripUs: 1,
    }));
    const remarks = summarize(REPORT.cluster, answers).remarks.filter((remark) => /feature/.test(remark));
    t.equal(remarks.length, level === 'ok' ? 0 : 1, what);
    if (level !== 'ok') t.match(remarks[0], words, what);
  }
  t.end();
});
