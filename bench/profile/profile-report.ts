/**
 * The result of one run under the profiler: the most expensive functions of each process, as an object, as text, as a
 * page.
 */
import type { Point } from '../../src/measure/compare/shape.js';
import type { BenchReport } from '../../src/measure/load/bench-report.js';
import { command, dataTable, figures, page, particulars, section } from '../../src/measure/report/html.js';
import { table } from '../../src/console/terminal.js';
import { formatCount } from '../../src/console/units.js';
import type { Frame, FrameKind, ProcessProfile } from './cpu-profile.js';
import { FLAME_LEGEND, FLAME_STYLE, flameGraph } from './flame.js';

const COSTLIEST = 10;

export interface FunctionCost {
  readonly name: string;
  readonly place: string;
  readonly kind: FrameKind;
  /** Share of the process's samples that were not idle. */
  readonly share: number;
  /** Null if the kernel does not report the processor time. */
  readonly usPerOperation: number | null;
}

export interface ProcessCost {
  readonly role: string;
  readonly samples: number;
  /** Processor time of the main thread for an operation of the run. */
  readonly usPerOperation: number | null;
  /** Cores that the main thread kept busy. */
  readonly cores: number | null;
  readonly functions: readonly FunctionCost[];
}

export interface ProfileReport {
  readonly schema: 'jitpaxos.profile/1';
  readonly point: Point;
  readonly transport: string;
  readonly idle: string;
  readonly intervalUs: number;
  readonly warmupSeconds: number;
  readonly seconds: number;
  readonly operations: number;
  /** With the profiler, which takes its part. */
  readonly opsPerSecond: number;
  readonly viewChanges: number;
  readonly processes: readonly ProcessCost[];
  readonly host: BenchReport['host'];
  readonly version: string;
  readonly commandLine: string;
}

/** @param cpuSeconds of the main thread, over all operations */
export function costOf(
  role: string,
  profile: ProcessProfile,
  cpuSeconds: number | null,
  seconds: number,
  operations: number,
): ProcessCost {
  const usPerOperation = cpuSeconds === null || operations === 0 ? null : (cpuSeconds * 1e6) / operations;
  const functions = profile.functions.slice(0, COSTLIEST).map(({ name, place, kind, self }) => {
    const share = self / profile.busy;
    return { name, place, kind, share, usPerOperation: usPerOperation === null ? null : usPerOperation * share };
  });
  return {
    role,
    samples: profile.busy,
    usPerOperation,
    cores: cpuSeconds === null ? null : cpuSeconds / seconds,
    functions,
  };
}

export function profileText(report: ProfileReport): string {
  const blocks = report.processes.map((cost) =>
    [
      headOf(cost),
      ...table(
        [TABLE_HEAD, ...rowsOf(cost)].map((row) => [row[1]!, row[2]!, row[0]!, row[3]!]),
        new Set([0, 1]),
      ).map((line) => `  ${line}`),
    ].join('\n'),
  );
  return [leadOf(report), ...blocks].join('\n\n');
}

/** @param profiles in the order of `report.processes` */
export function profilePage(report: ProfileReport, profiles: readonly ProcessProfile[]): string {
  const { point, host } = report;
  return page({
    title: 'JITPaxos: profiles',
    heading: 'Where the time goes',
    lead: leadOf(report),
    style: FLAME_STYLE,
    sections: [
      figures(
        report.processes.map(({ role, usPerOperation, cores }) => ({
          name: role,
          value: micros(usPerOperation),
          remark: cores === null ? 'an operation' : `an operation; ${cores.toFixed(2)} cores`,
        })),
      ),
      ...report.processes.map((cost, index) => section(title(cost.role), processContent(cost, profiles[index]!))),
      section('How to read it', particulars(READING)),
      section(
        'Particulars',
        `${particulars([
          ['Cluster', `${point.replicas} replica processes on loopback, log in memory, machine ${point.machine}`],
          [
            'Load',
            `one client process over the slot interface, ${point.open} operations open, ${point.bytes} bytes each`,
          ],
          ['Transport', `${report.transport}, idle strategy ${report.idle}`],
          [
            'Sampled',
            `every ${report.intervalUs} µs or somewhat later, for ${report.seconds.toFixed(1)} s after ${report.warmupSeconds} s to warm up`,
          ],
          ['View changes', formatCount(report.viewChanges)],
          ['Host', `${host.cores} × ${host.cpu}, Linux ${host.kernel}, Node ${host.node}`],
          ['Version', `jitpaxos ${report.version}`],
        ])}${command(report.commandLine)}`,
      ),
    ],
  });
}

const READING: readonly (readonly [string, string])[] = [
  [
    'Width',
    'A box is as wide as its share of the process’s samples that were not idle; what it calls lies below it. Point at one for its name, share and cost. Boxes of less than 0.2 % are left out.',
  ],
  [
    'Cost',
    'The share times the processor time that the main thread used for an operation. Other threads (compiler, collector, the profiler itself) are not in it.',
  ],
  [
    'Event loop',
    'Node reports the whole poll phase as idle, though datagrams are received in it. What the kernel counted and no sample shows is this entry, without callers and callees; as a difference it is rough, more so on a loaded host.',
  ],
  [
    'Addon',
    'A call of the native addon counts with the function that makes it: flush sends, append computes the checksum, writeHalves reads the clock.',
  ],
  [
    'Inlined',
    'V8 inlines small functions into their callers and mostly tells them apart; at a few samples a line is not exact.',
  ],
];

const TABLE_HEAD = ['function', 'share', 'an operation', 'where'];

function rowsOf({ functions }: ProcessCost): string[][] {
  return functions.map(({ name, place, share, usPerOperation }) => [
    name,
    percent(share),
    micros(usPerOperation),
    place,
  ]);
}

function processContent(cost: ProcessCost, profile: ProcessProfile): string {
  const describe = (frame: Frame, share: number): string =>
    `${frame.name} (${frame.place}): ${percent(share)}${cost.usPerOperation === null ? '' : `, ${micros(cost.usPerOperation * share)} an operation`}; itself ${percent(frame.self / profile.busy)}`;
  return `${FLAME_LEGEND}${flameGraph(profile.root, `flame graph of the ${cost.role}`, describe)}${cost.functions.length === 0 ? '' : dataTable(TABLE_HEAD, rowsOf(cost))}<p class="note">${formatCount(cost.samples)} samples. Self time: a function without what it calls.</p>`;
}

function headOf({ role, usPerOperation, cores, samples }: ProcessCost): string {
  return `${role}: ${micros(usPerOperation)} an operation${cores === null ? '' : `, ${cores.toFixed(2)} cores`}, ${formatCount(samples)} samples${samples === 0 ? '; nothing to show' : ''}`;
}

function leadOf({ point, opsPerSecond, operations, transport, idle }: ProfileReport): string {
  return `${formatCount(operations)} operations at ${formatCount(opsPerSecond)} a second under the profiler, ${point.open} open, ${transport}/${idle}; the ${COSTLIEST} functions of each process with the most time of their own.`;
}

function title(role: string): string {
  return role.charAt(0).toUpperCase() + role.slice(1);
}

function percent(share: number): string {
  return `${(share * 100).toFixed(1)} %`;
}

function micros(us: number | null): string {
  return us === null ? '–' : `${us.toFixed(us < 0.995 ? 3 : 2)} µs`;
}
