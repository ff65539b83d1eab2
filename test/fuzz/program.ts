/**
 * `npm run fuzz`: sends datagrams by the million to the receive path (receive-path.ts). Exit code 1 if anything
 * crashed, or changed that must not.
 */
import { program } from '../../bench/program.js';
import { CliError } from '../../src/console/exit.js';
import { FORGERIES } from './forger.js';
import { KINDS, ReceivePathFuzzer } from './receive-path.js';

const PROGRESS_MS = 5_000;
await program(
  {
    name: 'npm run fuzz --',
    summary: 'Throws forged and hostile datagrams at replica cores, a client core and all before them.',
    positionals: [],
    flags: {
      datagrams: { kind: 'count', default: '20000000', min: 1, max: 1e12, help: 'how many in all, at least' },
      seed: { kind: 'count', default: '1', max: 0x7fffffff, help: 'the same seed throws the same datagrams' },
    },
    examples: ['npm run fuzz', 'npm run fuzz -- --seed 7 --datagrams 1000000 --json'],
  },
  async ({ datagrams, seed }, output) => {
    const fuzzer = new ReceivePathFuzzer(seed);
    const { counts } = fuzzer;
    const tried = (): number => KINDS.reduce((sum, kind) => sum + counts.tried[kind], 0);
    const startedMs = performance.now();
    let shownMs = startedMs;
    while (tried() < datagrams) {
      fuzzer.round();
      const nowMs = performance.now();
      if (nowMs - shownMs < PROGRESS_MS) continue;
      shownMs = nowMs;
      output.note(
        `${tried()} of ${datagrams}, ${counts.crashes.size} kinds of crashes, ${counts.violations.size} of violations`,
      );
    }
    const seconds = (performance.now() - startedMs) / 1000;
    const crashes = total(counts.crashes);
    const violations = total(counts.violations);
    const result = {
      schema: 'jitpaxos.fuzz/1',
      seed,
      datagrams: tried(),
      tried: counts.tried,
      crashes,
      violations,
      stopped: total(counts.stopped),
      forgeries: fuzzer.forger.made,
      handled: counts.handled,
      reports: counts.reports,
      clusters: counts.clusters,
      ...fuzzer.atWork,
      seconds,
      perSecond: Math.round(tried() / seconds),
    };
    output.line(
      output.json
        ? JSON.stringify({ ...result, found: [...counts.crashes, ...counts.violations] })
        : [
            `datagrams   ${result.datagrams} in ${seconds.toFixed(1)} s, ${result.perSecond}/s: ${KINDS.map((kind) => `${counts.tried[kind]} ${kind}`).join(', ')}`,
            `found       ${crashes} crashes, ${violations} violations`,
            `forged      ${FORGERIES.map((name) => `${fuzzer.forger.made[name]} ${name}`).join(', ')}`,
            `handled     of the hostile ones ${Object.entries(counts.handled)
              .map(([version, times]) => `${times} in version ${version}`)
              .join(', ')}; ${counts.reports} reports`,
            `meanwhile   ${result.committed} operations committed, ${result.heard} messages heard, ${counts.clusters} clusters; ${result.stopped} times an invariant stopped a replica that a lying replica spoke to`,
            ...list('crash', counts.crashes),
            ...list('violation', counts.violations),
            ...list('stopped', kindsOf(counts.stopped)),
          ].join('\n'),
    );
    if (crashes + violations > 0)
      throw new CliError(
        'assertion-failed',
        `${crashes} crashes and ${violations} violations; run npm run fuzz -- --seed ${seed} --datagrams ${datagrams} again`,
      );
  },
);

function total(found: ReadonlyMap<string, number>): number {
  return [...found.values()].reduce((sum, times) => sum + times, 0);
}

/** The texts without their numbers, which differ each time. */
function kindsOf(found: ReadonlyMap<string, number>): ReadonlyMap<string, number> {
  const kinds = new Map<string, number>();
  for (const [text, times] of found) {
    const kind = text.replace(/\b[0-9a-f]{16}\b|\d+/g, 'n');
    kinds.set(kind, (kinds.get(kind) ?? 0) + times);
  }
  return kinds;
}

function list(what: string, found: ReadonlyMap<string, number>): string[] {
  return [...found].map(([text, times]) => `  ${what}, ${times} times: ${text}`);
}
