/**
 * `jitpaxos config explain`: every setting of a replica as it would be used, with the source of its value. Starts
 * nothing.
 */
import { defineCommand } from '../console/command.js';
import { Exit } from '../console/exit.js';
import { COMMON_FLAGS, standardWords, type Flags } from '../console/flags.js';
import { replica } from './replica.js';
import { variableOf } from '../console/settings.js';
import { Colour, paint, table } from '../console/terminal.js';

/** The flags of `replica` that are settings. */
export const REPLICA_SETTINGS: Flags = Object.fromEntries(
  Object.entries(replica.shape.flags).filter(([name]) => !(name in COMMON_FLAGS)),
);

export const explain = defineCommand(
  {
    name: 'config explain',
    summary:
      'Shows every setting of `jitpaxos replica` with its value and the source of the value: the command line, the environment, the file of --config, or the default.',
    positionals: [],
    flags: REPLICA_SETTINGS,
    examples: [
      'jitpaxos config explain --config replica.json',
      'JITPAXOS_ID=1 jitpaxos config explain --suspect-after 100ms --json',
    ],
  },
  async ({ origins }, output) => {
    const settings = Object.keys(REPLICA_SETTINGS).map((name) => {
      const origin = origins[name];
      const flag = REPLICA_SETTINGS[name]!;
      const standard = standardWords(flag) ?? (flag.kind === 'switch' ? 'false' : undefined);
      return {
        name,
        variable: variableOf(name),
        value: origin?.text ?? standard ?? null,
        from: origin?.from ?? (standard === undefined ? 'unset' : 'default'),
        where: origin === undefined || origin.from === 'default' ? null : origin.label,
      };
    });
    if (output.json) output.line(JSON.stringify({ schema: 'jitpaxos.config/1', settings }));
    else {
      const rows = settings.map(({ name, value, from, where }) => [
        paint(output.colours, Colour.bold, name),
        value ?? '–',
        where ?? from,
      ]);
      for (const line of table([
        ['setting', 'value', 'from'].map((title) => paint(output.colours, Colour.dim, title)),
        ...rows,
      ]))
        output.line(line);
    }
    return Exit.done;
  },
);
