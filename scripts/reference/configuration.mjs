/** docs/reference/configuration.md: every setting of a replica, from the table that parses it. */
import { REPLICA_SETTINGS } from '../../dist/src/cli/config.js';
import { standardText } from '../../dist/src/console/flags.js';
import { CONFIG_SCHEMA, keyOf, variableOf } from '../../dist/src/console/settings.js';

export function configurationPage() {
  return [
    '# Configuration of a replica',
    '',
    '<!-- Written by scripts/reference-docs.mjs. Do not edit: change the tables in src/cli/ and run `npm run docs:reference`. -->',
    '',
    'Each setting can be given as a flag of `npx jitpaxos replica`, as an environment variable, or as a key of the file that `--config` names. The flag takes precedence over the variable, the variable over the file, and the file over the default. An empty variable counts as not set.',
    '',
    '`npx jitpaxos config explain`, with the same flags and environment, prints the values that would be used and where each comes from.',
    '',
    'The cluster file holds the settings that all replicas share: the addresses and [`limits`](limits.md). Unknown keys, misspelt variables and values out of range are refused at the start, with exit code 2.',
    '',
    '```json',
    JSON.stringify(
      {
        schema: CONFIG_SCHEMA,
        id: 0,
        cluster: '/etc/jitpaxos/cluster.json',
        data: '/var/lib/jitpaxos',
        metrics: '9464',
        clock: 'auto',
      },
      null,
      2,
    ),
    '```',
    '',
    'Durations need a unit (`5ms`). Sizes may have one (`64KiB`).',
    '',
    '| flag | variable | key | takes | what it is |',
    '| --- | --- | --- | --- | --- |',
    ...Object.entries(REPLICA_SETTINGS).map(
      ([name, flag]) =>
        `| \`--${name}\` | \`${variableOf(name)}\` | ${name === 'config' ? '' : `\`${keyOf(name)}\``} | ${takes(flag)} | ${flag.help}${standardText(flag)} |`,
    ),
    '',
  ].join('\n');
}

function takes(flag) {
  if (flag.kind === 'choice') return flag.choices.map((choice) => `\`${choice}\``).join(', ');
  if (flag.kind === 'text') return flag.value ?? 'text';
  return { switch: 'true or false', count: 'a whole number', bytes: 'a size', duration: 'a duration' }[flag.kind];
}
