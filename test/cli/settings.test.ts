// Settings: one table, four sources, and whatever is wrong in any of them named.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { REPLICA_SETTINGS } from '../../src/cli/config.js';
import type { CliError } from '../../src/console/exit.js';
import { parseFlags, type CommandShape, type Flags } from '../../src/console/flags.js';
import {
  asSettings,
  CONFIG_FLAG,
  CONFIG_SCHEMA,
  keyOf,
  openSettings,
  variableOf,
  withoutSettings,
} from '../../src/console/settings.js';
import { jitpaxos } from '../cluster/processes.js';

const SHAPE = {
  name: 'jitpaxos thing',
  summary: 'Does a thing.',
  positionals: [],
  flags: {
    ...asSettings({
      config: CONFIG_FLAG,
      id: { kind: 'count', max: 9, help: 'which' },
      'sync-interval': { kind: 'duration', default: '5ms', help: 'how often' },
      size: { kind: 'bytes', help: 'how large' },
      loud: { kind: 'switch', help: 'louder' },
    }),
    local: { kind: 'count', help: 'not a setting' },
    help: { kind: 'switch', help: 'this' },
  },
  examples: [],
} as const satisfies CommandShape<Flags>;

function file(t: Test, content: unknown): string {
  const folder = mkdtempSync(join(tmpdir(), 'jitpaxos-settings-'));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  const path = join(folder, 'replica.json');
  writeFileSync(path, typeof content === 'string' ? content : JSON.stringify(content));
  return path;
}

const parse = (args: string[], env: NodeJS.ProcessEnv = {}) =>
  parseFlags(SHAPE, args, (path) => openSettings(SHAPE, path, env));

t.test('names', (t) => {
  t.equal(variableOf('sync-interval'), 'JITPAXOS_SYNC_INTERVAL');
  t.equal(keyOf('sync-interval'), 'syncInterval');
  t.same(withoutSettings({ JITPAXOS_ID: '1', PATH: '/bin' }), { PATH: '/bin' });
  t.end();
});

t.test('flag before variable before file before default', (t) => {
  const path = file(t, { schema: CONFIG_SCHEMA, id: 1, syncInterval: '1ms', size: '1KiB', loud: true });
  const all = parse(['--config', path, '--id', '3'], { JITPAXOS_ID: '2', JITPAXOS_SYNC_INTERVAL: '2ms' });
  t.match(all.values, { id: 3, 'sync-interval': 2e6, size: 1024, loud: true });
  t.same(all.origins['id'], { from: 'flag', label: '--id', text: '3' });
  t.same(all.origins['sync-interval'], { from: 'environment', label: 'JITPAXOS_SYNC_INTERVAL', text: '2ms' });
  t.same(all.origins['size'], { from: 'file', label: `${path}: "size"`, text: '1KiB' });
  const none = parse([]);
  t.match(none.values, { id: undefined, 'sync-interval': 5e6, loud: false });
  t.equal(none.origins['sync-interval']!.from, 'default');
  t.equal(none.origins['id'], undefined);
  t.equal(parse([], { JITPAXOS_CONFIG: path }).values.id, 1, 'the file may be named by a variable');
  t.equal(parse([], { JITPAXOS_ID: '' }).values.id, undefined, 'an empty variable is none');
  t.equal(parse([], { JITPAXOS_LOCAL: '3' }).values.local, undefined, 'what is no setting has no variable');
  t.equal(parse(['--loud'], { JITPAXOS_LOUD: 'false' }).values.loud, true);
  t.equal(parse(['--help'], { JITPAXOS_ID: 'x' }).values.id, undefined, 'help comes whatever is set');
  t.end();
});

t.test('what is wrong is named with its source, and exit code 2', (t) => {
  const config = (content: unknown): string[] => ['--config', file(t, content)];
  const cases: [what: string, args: string[], env: NodeJS.ProcessEnv, code: string, words: RegExp][] = [
    [
      'a value of the environment',
      [],
      { JITPAXOS_ID: 'x' },
      'flag-invalid',
      /^JITPAXOS_ID "x" is not a whole number from 0 to 9/,
    ],
    ['one out of range', [], { JITPAXOS_ID: '10' }, 'flag-invalid', /from 0 to 9/],
    ['a switch', [], { JITPAXOS_LOUD: 'yes' }, 'flag-invalid', /JITPAXOS_LOUD "yes" is not true or false/],
    [
      'a misspelt variable',
      [],
      { JITPAXOS_SYNC_INTERVALL: '1ms' },
      'config-invalid',
      /did you mean JITPAXOS_SYNC_INTERVAL\?/,
    ],
    [
      'a misspelt key',
      config({ schema: CONFIG_SCHEMA, syncinterval: '1ms' }),
      {},
      'config-invalid',
      /"syncinterval" is not known here; did you mean "syncInterval"\?/,
    ],
    [
      'a key like nothing',
      config({ schema: CONFIG_SCHEMA, zzzzzz: 1 }),
      {},
      'config-invalid',
      /use one of id, syncInterval, size, loud/,
    ],
    ['a key that is no setting', config({ schema: CONFIG_SCHEMA, local: 1 }), {}, 'config-invalid', /"local"/],
    [
      'a value in the file',
      config({ schema: CONFIG_SCHEMA, syncInterval: '5' }),
      {},
      'flag-invalid',
      /replica\.json: "syncInterval" "5" is not a duration/,
    ],
    [
      'its type',
      config({ schema: CONFIG_SCHEMA, syncInterval: 5 }),
      {},
      'config-invalid',
      /"syncInterval" is 5; it has to be a text/,
    ],
    ['another type', config({ schema: CONFIG_SCHEMA, loud: 1 }), {}, 'config-invalid', /it has to be true or false/],
    ['no schema', config({ id: 1 }), {}, 'config-invalid', /"schema" is undefined/],
    ['a list', config([]), {}, 'config-invalid', /not a JSON object/],
    ['no JSON', config('{'), {}, 'config-invalid', /is not JSON/],
  ];
  for (const [what, args, env, code, words] of cases) {
    try {
      parse(args, env);
      t.fail(`${what} was accepted`);
    } catch (error) {
      t.equal((error as CliError).code, code, what);
      t.match((error as CliError).message, words, what);
      t.equal((error as CliError).exitCode, 2, what);
    }
  }
  t.throws(() => parse(['--config', '/absent/replica.json']), { code: 'config-file-unreadable' });
  t.doesNotThrow(
    () => parse([], { JITPAXOS_SKIP_NATIVE: '1', JITPAXOS_SOMETHING_ELSE: '1' }),
    'variables for others are left alone',
  );
  t.end();
});

t.test('jitpaxos config explain', async (t) => {
  const path = file(t, { schema: CONFIG_SCHEMA, id: 2, maxHold: '0s' });
  const { code, stdout } = await jitpaxos(['config', 'explain', '--json', '--config', path, '--machine', 'echo'], {
    env: { JITPAXOS_METRICS: '9464' },
  });
  t.equal(code, 0);
  const { settings } = JSON.parse(stdout) as { settings: { name: string; value: string; from: string }[] };
  const of = (name: string): string =>
    settings.flatMap((each) => (each.name === name ? [`${each.value} ${each.from}`] : [])).join();
  t.same(['id', 'max-hold', 'metrics', 'machine', 'durability', 'data'].map(of), [
    '2 file',
    '0s file',
    '9464 environment',
    'echo flag',
    'os default',
    '.jitpaxos/replica-N beside the cluster file default',
  ]);
  t.match(
    (await jitpaxos(['config', 'explain'], { env: { JITPAXOS_CLOCKK: 'tai' } })).stderr,
    /^config-invalid: .*did you mean JITPAXOS_CLOCK\?\n$/,
  );
  t.match(
    (await jitpaxos(['replica', '--id', '0', '--suspect-after', '6ms'])).stderr,
    /"code":"flag-invalid","error":"--suspect-after is less than twice --sync-interval/,
  );
});

t.test('every setting is in the documentation', (t) => {
  const page = readFileSync(new URL('../../../docs/reference/configuration.md', import.meta.url), 'utf8');
  for (const name of Object.keys(REPLICA_SETTINGS))
    t.ok(page.includes(`| \`--${name}\` | \`${variableOf(name)}\` |`), name);
  t.end();
});
