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
    'Each setting is a flag of `jitpaxos replica`, an environment variable, and a key of the file that `--config` names. The flag goes before the variable, the variable before the file, the file before',
    'the default; an empty variable counts as not set. `jitpaxos config explain`, given the same flags and environment, prints what would be used and where it comes from.',
    '',
    'What the whole cluster has to agree on (addresses, `limits`) is in the cluster file, not here. Unknown keys, misspelt variables and values out of range are refused at the start, with exit code 2.',
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
    'Durations carry a unit (`5ms`), sizes may (`64KiB`).',
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
