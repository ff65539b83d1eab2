/**
 * `jitpaxos doctor`: checks this host, the cluster as seen from it, and a data directory; says what to do about its
 * findings.
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { DEFAULT_LIMITS, type Limits } from '../../protocol/config.js';
import { defineCommand, type Output } from '../../console/command.js';
import {
  checkAddresses,
  checkChain,
  checkDataDirectory,
  checkKeys,
  checkReplicas,
  readCluster,
} from './cluster-checks.js';
import { checkClocks } from './clock-checks.js';
import { askMembers, checkIdentity, memberFindings } from './member-checks.js';
import type { MembersSummary } from '../members/agreement.js';
import type { Finding, Level } from './finding.js';
import * as checks from './host-checks.js';
import { Host } from './host.js';
import { KEY_FILE_FLAG, keysOf } from '../../console/settings.js';
import { CliError, Exit } from '../../console/exit.js';
import { Colour, paint } from '../../console/terminal.js';

const DEFAULT_CLUSTER = 'cluster.json';

const TAGS: Readonly<Record<Level, readonly [text: string, colour: Colour]>> = {
  ok: ['[ OK ]', Colour.green],
  warn: ['[WARN]', Colour.yellow],
  fail: ['[FAIL]', Colour.red],
  skip: ['[SKIP]', Colour.dim],
};

export const doctor = defineCommand(
  {
    name: 'doctor',
    summary:
      'Checks this host, and the cluster as seen from it. Prints what it finds and what to do. Exit code 1 if a check failed.',
    positionals: [],
    flags: {
      cluster: {
        kind: 'text',
        value: 'FILE',
        help: `the cluster file (default ${DEFAULT_CLUSTER} if it exists; otherwise only the host is checked)`,
      },
      'key-file': { ...KEY_FILE_FLAG, alias: 'keys' },
      data: { kind: 'text', value: 'DIR', help: 'a data directory to test: a small file is written and removed' },
      timeout: {
        kind: 'duration',
        default: '1s',
        min: 1e6,
        max: 3600e9,
        help: 'how long to wait for a replica that does not answer',
      },
      strict: { kind: 'switch', help: 'count a warning as a failure' },
      root: {
        kind: 'text',
        value: 'DIR',
        default: '/',
        help: "directory with the host's proc, sys and dev; for a container into which they are mounted",
      },
    },
    examples: [
      'jitpaxos doctor',
      'jitpaxos doctor --cluster cluster.json --data /var/lib/jitpaxos',
      'jitpaxos doctor --json | jq ".findings[] | select(.level == \\"warn\\")"',
    ],
  },
  async ({ values }, output) => {
    if (!existsSync(join(values.root, 'proc')))
      throw new CliError(
        'flag-invalid',
        `--root "${values.root}" has no folder proc; give the folder that holds the host's proc, sys and dev`,
      );
    const file = values.cluster ?? (existsSync(DEFAULT_CLUSTER) ? DEFAULT_CLUSTER : undefined);
    const findings: Finding[] = [];
    let members: MembersSummary | undefined;
    const known = file === undefined ? undefined : readCluster(file);
    const located = known?.cluster === undefined ? undefined : await checkAddresses(known.cluster);
    const host = new Host(values.root);
    findings.push(
      ...(await hostFindings(
        host,
        located?.addresses ?? [],
        known?.cluster?.limits ?? DEFAULT_LIMITS,
        known?.cluster?.datagramBytes,
      )),
    );
    // A host that is mounted elsewhere has clocks that cannot be read from here.
    if (values.root === '/') findings.push(...(await checkClocks()));
    if (known !== undefined) findings.push(known.finding);
    if (known?.cluster !== undefined) findings.push(checkChain(known.cluster));
    if (known?.cluster !== undefined) findings.push(...checkKeys(file!, known.cluster, values['key-file']));
    if (located !== undefined) findings.push(...located.findings);
    if (located !== undefined && located.addresses.length > 0) {
      const timeoutMs = Math.ceil(values.timeout / 1e6);
      findings.push(...(await checkReplicas(file!, timeoutMs, keysOf(values), values.root === '/' ? host : undefined)));
      members = await askMembers(file!, timeoutMs, keysOf(values));
      findings.push(...memberFindings(members));
    }
    if (values.data !== undefined) {
      findings.push(...checkDataDirectory(values.data));
      if (existsSync(values.data)) findings.push(...(await checkIdentity(values.data, known?.cluster, members)));
    }
    return report(findings, values.strict, output);
  },
);

async function hostFindings(
  host: Host,
  addresses: readonly string[],
  limits: Limits,
  datagramBytes: number | undefined,
): Promise<Finding[]> {
  return [
    checks.checkNode(),
    checks.checkAddon(),
    checks.checkClockSource(host),
    checks.checkPtpDevices(host),
    checks.checkTimeDaemon(host),
    ...(await checks.checkSocketBuffers()),
    checks.checkUdpLosses(host),
    ...checks.checkMtu(host, addresses, undefined, datagramBytes),
    checks.checkCores(host),
    checks.checkGovernor(host),
    checks.checkIdleStates(host),
    checks.checkSteal(host),
    checks.checkMemory(host, checks.neededBytes(limits)),
    checks.checkSwap(host),
  ];
}

function report(findings: readonly Finding[], strict: boolean, output: Output): number {
  const count = (level: Level): number => findings.filter((finding) => finding.level === level).length;
  const failed = count('fail');
  const warned = count('warn');
  if (output.json) output.line(JSON.stringify({ schema: 'jitpaxos.doctor/1', failed, warned, findings }));
  else {
    const width = Math.max(...findings.map(({ check }) => check.length));
    for (const { check, level, found, advice } of findings) {
      if (output.quiet && (level === 'ok' || level === 'skip')) continue;
      const [tag, colour] = TAGS[level];
      output.line(`${paint(output.colours, colour, tag)} ${check.padEnd(width)}  ${found}`);
      if (advice !== undefined) output.line(`${' '.repeat(TAGS.ok[0].length + 1)}${' '.repeat(width)}  → ${advice}`);
    }
    output.line(
      `${count('ok')} in order, ${warned} warnings, ${failed} failures${count('skip') > 0 ? `, ${count('skip')} not visible from here` : ''}`,
    );
  }
  return failed > 0 || (strict && warned > 0) ? Exit.failed : Exit.done;
}
