/**
 * `jitpaxos features list|enable`: what replicas compute differently since an entry of the log (docs/internals/decisions/
 * versions.md, rule 2). Enabling asks every replica first: one that does not answer, or is of a version that does not know
 * the feature, would stop at that entry.
 */
import { switchOn } from '../client/feature-switch.js';
import { StatusClient, type StatusAnswer } from '../client/status-client.js';
import { openChain } from '../host/chain.js';
import { loadKeys } from '../host/key-file.js';
import { keyFileBeside } from '../host/keyring.js';
import { loadHash } from '../native/hash64.js';
import { FEATURE_NAMES, featureOperation, OFFERED_FEATURES, type FeatureName } from '../protocol/log/features.js';
import { defineCommand, type Output } from '../console/command.js';
import { CliError, Exit } from '../console/exit.js';
import type { Flags } from '../console/flags.js';
import { CLUSTER_FLAG, KEY_FILE_FLAG, keysOf } from '../console/settings.js';
import { table } from '../console/terminal.js';
import { warnWithoutKeys } from '../console/without-keys.js';

const FLAGS = {
  cluster: CLUSTER_FLAG,
  'key-file': { ...KEY_FILE_FLAG, alias: 'keys' },
  timeout: { kind: 'duration', default: '5s', min: 1e6, max: 3600e9, help: 'how long to wait for replicas' },
} as const satisfies Flags;

/** What replicas say of one feature, in words; `unknown` is never shown as off. */
function stateOf(report: StatusAnswer['report'], name: string): string {
  if (report === undefined) return 'no answer';
  if (report.features === undefined || !report.features.known.includes(name)) return 'does not know it';
  return report.features.on.includes(name) ? 'on' : 'off';
}

async function ask(
  values: { readonly cluster: string; readonly 'key-file': string | undefined; readonly timeout: number },
  output: Output,
): Promise<{ readonly client: StatusClient; readonly answers: readonly StatusAnswer[] }> {
  const client = await StatusClient.open({ cluster: values.cluster, ...keysOf(values) });
  try {
    warnWithoutKeys(output, client.cluster);
    return { client, answers: await client.ask(Math.ceil(values.timeout / 1e6)) };
  } finally {
    await client.close();
  }
}

export const list = defineCommand(
  {
    name: 'features list',
    summary: 'Shows for each replica which features it knows, and which are on.',
    positionals: [],
    flags: FLAGS,
    examples: ['jitpaxos features list'],
  },
  async ({ values }, output) => {
    const { answers } = await ask(values, output);
    const names = new Set<string>([
      ...OFFERED_FEATURES,
      ...answers.flatMap(({ report }) => report?.features?.known ?? []),
    ]);
    if (output.json)
      output.line(
        JSON.stringify({
          schema: 'jitpaxos.features/1',
          replicas: answers.map(({ id, report }) => ({ id, features: report?.features ?? null })),
        }),
      );
    else {
      const rows = [...names].map((name) => [name, ...answers.map(({ report }) => stateOf(report, name))]);
      for (const line of table([['feature', ...answers.map(({ id }) => `replica ${id}`)], ...rows])) output.line(line);
    }
    return answers.some(({ report }) => report === undefined) ? Exit.unavailable : Exit.done;
  },
);

export const enable = defineCommand(
  {
    name: 'features enable',
    summary:
      'Switches a feature on, on all replicas at the same entry of the log. Asks first whether all of them know it. There is no way back.',
    positionals: ['FEATURE'],
    flags: {
      ...FLAGS,
      'replica-keys': {
        kind: 'text',
        value: 'FILE',
        standard: 'replica.keys beside the cluster file',
        help: "the replicas' key file, for the secret of the chain",
      },
    },
    examples: ['jitpaxos features enable session-quotas'],
  },
  async ({ values, positionals: [name] }, output) => {
    const number = OFFERED_FEATURES.includes(name as FeatureName) ? FEATURE_NAMES.indexOf(name as FeatureName) + 1 : 0;
    if (number === 0)
      throw new CliError('flag-invalid', `${name} is not a feature; this version knows ${OFFERED_FEATURES.join(', ')}`);
    const { client, answers } = await ask(values, output);
    const { cluster } = client;
    const notYet = answers.filter(({ report }) => report?.features?.known.includes(name!) !== true);
    if (notYet.length > 0)
      throw new CliError(
        'feature-not-everywhere',
        `nothing was changed: ${notYet.map(({ id, report }) => `replica ${id}: ${stateOf(report, name!)}`).join(', ')}. Every replica has to answer and to know ${name}: upgrade or start those, then run this again`,
      );
    if (name === 'redis' && answers.some(({ report }) => !report!.features!.on.includes('store')))
      throw new CliError(
        'feature-not-everywhere',
        'nothing was changed: redis does nothing without store. Run jitpaxos features enable store, then this again',
      );
    if (answers.every(({ report }) => report!.features!.on.includes(name!))) {
      output.note(`${name} is on already`);
      return Exit.done;
    }
    const secret =
      cluster.authentication === 'keys'
        ? loadKeys(values['replica-keys'] ?? keyFileBeside(values.cluster, 'replica'), cluster.id, 'replica')
            .chainSecret
        : undefined;
    const operation = featureOperation(number, openChain(cluster, secret, loadHash()));
    const timeoutMs = Math.ceil(values.timeout / 1e6);
    await switchOn({ cluster: values.cluster, ...keysOf(values), connectTimeout: timeoutMs }, operation, timeoutMs);
    if (output.json) output.line(JSON.stringify({ schema: 'jitpaxos.features/1', enabled: name }));
    else output.line(`${name} is on`);
    return Exit.done;
  },
);
