/** `jitpaxos clock list`: the clocks of this host, who says how good they are, and which one `auto` takes. */
import { candidates } from '../clock/choose.js';
import { listDevices } from '../clock/devices.js';
import { deviceStatements, systemStatements } from '../clock/host-clock.js';
import type { Stated } from '../clock/quality/statement.js';
import { PhcSampler } from '../clock/sampler.js';
import { native } from '../native/addon.js';
import { bound } from './clock-values.js';
import { defineCommand } from './command.js';
import { Exit } from './exit.js';
import { table } from './terminal.js';

export const clockList = defineCommand(
  { name: 'clock list', summary: 'Lists the clocks of this host, what is known of them, and which one auto takes, and why.', positionals: [], flags: {}, examples: ['jitpaxos clock list', 'jitpaxos clock list --json | jq .chosen'] },
  async (_, output) => {
    const considered = await candidates();
    const chosen = considered.find(({ usable }) => usable)!;
    const devices = await Promise.all(listDevices().map(async (device) => ({ ...device, ...probe(device.path), statements: await deviceStatements(native, device) })));
    const system = await systemStatements(native);
    if (output.json) {
      output.line(JSON.stringify({ schema: 'jitpaxos.clock-list/1', chosen: chosen.spec, candidates: considered, devices, system }));
      return Exit.done;
    }
    output.line(devices.length === 0 ? 'no PTP hardware clocks (/sys/class/ptp)' : 'PTP hardware clocks');
    for (const { path, clockName, driver, interfaces, method, capabilities, problem, statements } of devices) {
      output.line(`  ${path}  ${clockName}${driver === undefined ? '' : `, driver ${driver}`}${interfaces.length === 0 ? '' : `, of ${interfaces.join(', ')}`}`);
      output.line(`    ${problem ?? `sampled by ${method}${capabilities === undefined ? '' : `, adjustable by ${capabilities.maxAdjustmentPpb} ppb${capabilities.crossTimestamping ? ', latches both clocks at once' : ''}`}`}`);
      for (const line of statementLines(statements)) output.line(`    ${line}`);
    }
    output.line('system clock (CLOCK_REALTIME)');
    for (const line of statementLines(system)) output.line(`    ${line}`);
    output.line('auto');
    for (const candidate of considered) output.line(`  ${candidate === chosen ? '→' : candidate.usable ? ' ' : '✗'} ${candidate.spec}: ${candidate.why}`);
    return Exit.done;
  },
);

function probe(path: string): { method?: string; capabilities?: ReturnType<PhcSampler['capabilities']>; problem?: string } {
  if (!native.available) return { problem: native.reason };
  try {
    const sampler = PhcSampler.open(native.addon, path);
    const found = { method: sampler.method, capabilities: sampler.capabilities() };
    sampler.close();
    return found;
  } catch (error) {
    return { problem: (error as Error).message };
  }
}

function statementLines(statements: readonly Stated[]): string[] {
  return table(statements.map((stated) => (stated.available ? [stated.statement.source, stated.statement.status, bound(stated.statement.errorNs), stated.statement.found] : [stated.source, 'not there', '', stated.reason])));
}
