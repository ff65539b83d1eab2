/** `jitpaxos clock list`: the clocks of this host, what is known about their quality, and which one `auto` takes. */
import { candidates, type Candidate } from '../../clock/choose.js';
import { deviceStatements, systemStatements } from '../../clock/host-clock.js';
import { ERROR_LIMIT_NS, type Stated } from '../../clock/quality/statement.js';
import { native } from '../../native/addon.js';
import { bound, STATUS_COLOURS } from '../../console/clock-values.js';
import { defineCommand, type Output } from '../../console/command.js';
import { Exit } from '../../console/exit.js';
import { Colour, paint, table } from '../../console/terminal.js';

export const clockList = defineCommand(
  {
    name: 'clock list',
    summary: 'Lists the clocks of this host and what is known of each, and says which one auto uses and why.',
    positionals: [],
    flags: {},
    examples: ['jitpaxos clock list', 'jitpaxos clock list --json | jq .chosen'],
  },
  async (_, output) => {
    const considered = await candidates();
    const chosen = considered.find(({ usable }) => usable)!;
    const devices = await Promise.all(
      considered.flatMap(({ device, probed }) =>
        device === undefined
          ? []
          : [deviceStatements(native, device).then((statements) => ({ ...device, ...probed, statements }))],
      ),
    );
    const system = await systemStatements(native);
    if (output.json) {
      const plain = considered.map(({ spec, usable, why }) => ({ spec, usable, why }));
      output.line(
        JSON.stringify({ schema: 'jitpaxos.clock-list/1', chosen: chosen.spec, candidates: plain, devices, system }),
      );
      return Exit.done;
    }
    const bold = (text: string): string => paint(output.colours, Colour.bold, text);
    output.line(bold(devices.length === 0 ? 'no PTP hardware clocks (/sys/class/ptp)' : 'PTP hardware clocks'));
    for (const { path, clockName, driver, interfaces, method, epoch, capabilities, problem, statements } of devices) {
      output.line(
        `  ${path}  ${clockName}${driver === undefined ? '' : `, driver ${driver}`}${interfaces.length === 0 ? '' : `, of ${interfaces.join(', ')}`}`,
      );
      const facts = [
        epoch && `counts ${epoch.toUpperCase()}`,
        method && `sampled by ${method}`,
        capabilities && `adjustable by ${(capabilities.maxAdjustmentPpb / 1e3).toFixed(0)} ppm`,
        capabilities?.crossTimestamping === true && 'latches both clocks at once',
        capabilities?.pps === true && 'has PPS',
      ].filter(Boolean);
      if (facts.length > 0) output.line(`    ${facts.join(', ')}`);
      if (problem !== undefined) output.line(`    ${paint(output.colours, Colour.yellow, problem)}`);
      for (const line of statementLines(statements, output)) output.line(`    ${line}`);
    }
    output.line('');
    output.line(bold('system clock (CLOCK_REALTIME)'));
    for (const line of statementLines(system, output)) output.line(`    ${line}`);
    output.line('');
    output.line(bold('auto uses the first usable disciplined clock, smallest known error first'));
    for (const candidate of considered) output.line(candidateLine(candidate, candidate === chosen, output));
    return Exit.done;
  },
);

function candidateLine({ spec, usable, why, probed }: Candidate, chosen: boolean, { colours }: Output): string {
  const mark = chosen ? paint(colours, Colour.green, '→') : usable ? ' ' : paint(colours, Colour.red, '✗');
  return `  ${mark} ${chosen ? paint(colours, Colour.bold, spec) : spec}: ${probed?.problem === undefined ? why : 'cannot be used, see above'}`;
}

function statementLines(statements: readonly Stated[], { colours }: Output): string[] {
  const dim = (text: string): string => paint(colours, Colour.dim, text);
  return table(
    statements.map((stated) => {
      if (!stated.available) return [dim(stated.source), dim('not there'), '', dim(stated.reason)];
      const { source, status, errorNs, found } = stated.statement;
      const doubtful = errorNs === null || errorNs > ERROR_LIMIT_NS;
      return [
        source,
        paint(colours, STATUS_COLOURS[status], status),
        doubtful ? paint(colours, Colour.yellow, bound(errorNs)) : bound(errorNs),
        found,
      ];
    }),
  );
}
