/**
 * How late timers fire, and what waiting for them costs: the kernel's through the addon, asleep and beside a polling
 * transport, and Node's own, alternately.
 *
 *   npm run bench:timer -- [--fires 3000] [--json]
 */
import { openDeadlineTimer, type DeadlineTimer } from '../src/clock/deadline-timer.js';
import { hostInfo } from '../src/measure/load/bench-report.js';
import { table } from '../src/console/terminal.js';
import { formatDuration } from '../src/console/units.js';
import { Histogram } from '../src/metrics/histogram.js';
import { native, type NativeBinding } from '../src/native/addon.js';
import { NativeUdpTransport } from '../src/transport/native-udp.js';
import { DEFAULT_TRANSPORT } from '../src/transport/transport.js';
import { program } from './program.js';

const SHORTEST_US = 20;
const LONGEST_US = 2_000;
const NS_PER_US = 1000;
/** Fires of one kind before the next kind's turn. */
const FIRES_A_TURN = 100;
const WITHOUT_ADDON: NativeBinding = { available: false, addon: null, reason: 'measured' };

interface Kind {
  readonly name: string;
  readonly binding: NativeBinding;
  /** A polling transport is open meanwhile. */
  readonly polling: boolean;
  readonly late: Histogram;
  cpuUs: number;
  wallUs: number;
}

await program(
  {
    name: 'npm run bench:timer --',
    summary:
      'How late timers fire after times that are 20 µs to 2 ms away, and the processor time that waiting for them takes.',
    positionals: [],
    flags: { fires: { kind: 'count', default: '3000', min: 100, max: 1e6, help: 'fires of each kind' } },
    examples: ['npm run bench:timer'],
  },
  async ({ fires }, output) => {
    const kinds: Kind[] = [
      { name: 'setTimeout', binding: WITHOUT_ADDON, polling: false },
      ...(native.available
        ? [
            { name: 'kernel', binding: native, polling: false },
            { name: 'kernel, transport polls', binding: native, polling: true },
          ]
        : []),
    ].map((kind) => ({ ...kind, late: new Histogram(), cpuUs: 0, wallUs: 0 }));
    for (let done = 0; done < fires; done += FIRES_A_TURN)
      for (const kind of kinds) await turn(kind, Math.min(FIRES_A_TURN, fires - done));
    if (output.json) {
      output.line(
        JSON.stringify({
          schema: 'jitpaxos.timer-bench/1',
          fires,
          kinds: kinds.map(({ name, late, cpuUs, wallUs }) => ({
            name,
            lateNs: late.summary(),
            cpuRatio: cpuUs / wallUs,
          })),
          host: hostInfo(),
        }),
      );
      return;
    }
    const rows = kinds.map(({ name, late, cpuUs, wallUs }) => [
      name,
      ...[0.5, 0.9, 0.99, 1].map((fraction) => formatDuration(late.quantile(fraction))),
      `${((100 * cpuUs) / wallUs).toFixed(1)} %`,
    ]);
    for (const line of table([['timer', 'late p50', 'p90', 'p99', 'max', 'a core'], ...rows], new Set([1, 2, 3, 4, 5])))
      output.line(line);
    if (!native.available) output.line(`the kernel's: not measured, ${native.reason}`);
  },
);

async function turn(kind: Kind, fires: number): Promise<void> {
  const transport = kind.polling ? await pollingTransport() : undefined;
  const cpu = process.cpuUsage();
  const startUs = nowUs();
  await new Promise<void>((resolve) => {
    let left = fires;
    let atUs = 0;
    const timer: DeadlineTimer = openDeadlineTimer(() => {
      kind.late.record((nowUs() - atUs) * NS_PER_US);
      if (--left > 0) next();
      else {
        timer.close();
        resolve();
      }
    }, kind.binding);
    const next = (): void => {
      const now = nowUs();
      atUs = now + SHORTEST_US + (((left * 7919) % 1000) / 1000) * (LONGEST_US - SHORTEST_US);
      timer.arm(atUs, now);
    };
    next();
  });
  const used = process.cpuUsage(cpu);
  kind.cpuUs += used.user + used.system;
  kind.wallUs += nowUs() - startUs;
  await transport?.close();
}

async function pollingTransport(): Promise<NativeUdpTransport> {
  const transport = new NativeUdpTransport(native.addon!, {
    ...DEFAULT_TRANSPORT,
    idle: 'busy',
    replicas: [{ host: '127.0.0.1', port: 9, family: 4 }],
    listen: undefined,
    receive: () => undefined,
    batchEnd: () => undefined,
    notice: () => undefined,
    datagramBytes: 1400,
  });
  await transport.open();
  return transport;
}

function nowUs(): number {
  return performance.now() * 1000;
}
