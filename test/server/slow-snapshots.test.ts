// A machine that takes long to give its whole state is warned of, once in a while.
import t from 'tap';
import { SlowSnapshots } from '../../src/server/slow-snapshots.js';

interface Warning {
  readonly event: string;
  readonly fields: Record<string, unknown>;
}

function rig(): { warnings: Warning[]; snapshot: (atMs: number, tookMs: number) => void } {
  const warnings: Warning[] = [];
  let now = 0;
  const warn = (event: string, fields: Record<string, unknown>): void => void warnings.push({ event, fields });
  const slow = new SlowSnapshots(2, { warn } as never, 40, () => now);
  return {
    warnings,
    snapshot: (atMs, tookMs) => {
      now = atMs;
      slow.wholeState(false);
      now = atMs + tookMs;
      slow.wholeState(true);
    },
  };
}

t.test('half of the time after which others suspect it is too long', (t) => {
  const { warnings, snapshot } = rig();
  snapshot(0, 19);
  t.same(warnings, []);
  snapshot(1000, 21);
  t.equal(warnings.length, 1);
  const { event, fields } = warnings[0]!;
  t.equal(event, 'replica.snapshot-slow');
  t.match(fields, { replica: 2, ms: 21, suspectedAfterMs: 40, times: 1 });
  t.match(fields['next'], /beginSnapshot/);
  t.end();
});

t.test('it is said once a minute, with the longest and how many they were', (t) => {
  const { warnings, snapshot } = rig();
  for (let i = 0; i < 100; i++) snapshot(i * 1000, i === 30 ? 700 : 30);
  t.equal(warnings.length, 2);
  t.match(warnings[1]!.fields, { ms: 700, times: 60 });
  t.end();
});
