/** What many connections cost the front end: each sends a SET and a GET, and all stay open. */
import { readFileSync } from 'node:fs';
import { CliError } from '../../src/console/exit.js';
import { formatCount } from '../../src/console/units.js';
import { judged } from '../goals/row.js';
import { commandOf, RespLane } from './database.js';
import { VALUE_BYTES, type Effort, type Part } from './part.js';
import { startFrontEnd, type Peer } from './servers.js';
import { benchmarkKey } from './workload.js';

/** Connections that are opened at once: no more than the system keeps for the next accept. */
const TOGETHER = 200;
const MIB = 1 << 20;
const MEMORY_GOAL_MIB = 150;

interface Memory {
  readonly connections: number;
  /** Resident: before the first connection, with all of them, and at most so far. */
  readonly beforeMib: number;
  readonly withMib: number;
  readonly peakMib: number;
}

/** Throws CliError `worker-failed` where the kernel does not tell, and if a connection fails. @param front freshly started */
async function measureMemory(front: Peer, connections: number, bytes: number): Promise<Memory> {
  const lanes: RespLane[] = [];
  const value = Buffer.alloc(bytes, 'v');
  const beforeMib = residentMib(front, 'VmRSS');
  try {
    while (lanes.length < connections) {
      const more = Math.min(TOGETHER, connections - lanes.length);
      const options = { port: front.port, wait: false, index: false };
      lanes.push(...(await Promise.all(Array.from({ length: more }, () => RespLane.connect(options)))));
    }
    await Promise.all(
      lanes.map(async (lane, i) => {
        await lane.set(benchmarkKey(i), value);
        await lane.get(benchmarkKey(i));
      }),
    );
    // All are still open, and one of them is served.
    await lanes[0]!.send(commandOf(['PING']), 1, true);
    return {
      connections,
      beforeMib,
      withMib: residentMib(front, 'VmRSS'),
      peakMib: residentMib(front, 'VmHWM'),
    };
  } catch (error) {
    front.check();
    throw new CliError(
      'worker-failed',
      `with ${lanes.length} of ${connections} connections: ${error instanceof Error ? error.message : String(error)}; raise the number of open files (ulimit -n) if that is the reason`,
    );
  } finally {
    for (const lane of lanes) lane.close();
  }
}

function residentMib({ pids }: Peer, field: 'VmRSS' | 'VmHWM'): number {
  const path = `/proc/${pids[0]}/status`;
  let kib: string | undefined;
  try {
    kib = new RegExp(`^${field}:\\s*(\\d+) kB$`, 'm').exec(readFileSync(path, 'utf8'))?.[1];
  } catch {
    // told below
  }
  if (kib === undefined)
    throw new CliError(
      'worker-failed',
      `${path} does not tell the memory of the front end; this needs Linux, and a front end that runs`,
    );
  return (Number(kib) * 1024) / MIB;
}

/** In a front end of its own. */
export async function memory({ cluster, connections, note }: Effort): Promise<Part> {
  await using front = await startFrontEnd(cluster);
  const measured = await measureMemory(front, connections, VALUE_BYTES);
  const { beforeMib, withMib, peakMib } = measured;
  note(`memory: ${peakMib.toFixed(0)} MiB`);
  return {
    rows: [
      judged({
        name: 'memory',
        what: `${formatCount(connections)} connections that each sent SET and GET: peak of the front end's resident memory`,
        goal: `≤ ${MEMORY_GOAL_MIB} MiB`,
        measured: `${peakMib.toFixed(0)} MiB (${beforeMib.toFixed(0)} MiB before the first, ${withMib.toFixed(0)} MiB with all)`,
        figures: [{ value: peakMib, atMost: MEMORY_GOAL_MIB }],
        values: { ...measured },
      }),
    ],
    tables: [],
    values: measured,
    rounds: 1,
  };
}
