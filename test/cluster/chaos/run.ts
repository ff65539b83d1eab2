/** One chaos run: real replica processes, clients, a relay between them, trouble for a while, and then the verdict. */
import { join } from 'node:path';
import { readFileSync } from 'node:fs';
import { Client } from '../../../src/client/client.js';
import { LocalCluster } from '../../../src/measure/local-cluster.js';
import { silentLogger } from '../../../src/host/logger.js';
import type { KeyFile } from '../../../src/host/key-file.js';
import { KEY_FILE_NAMES } from '../../../src/host/keyring.js';
import type { Durability } from '../../../src/storage/durability.js';
import type { HistoryEvent } from '../../../src/sim/history.js';
import { Random } from '../../../src/sim/random.js';
import { Busy } from './busy.js';
import { Clocks } from './clocks.js';
import { Disks } from './disks.js';
import { Load } from './load.js';
import { Relay, type RelayCounts } from './relay.js';
import { Tormentor } from './tormentor.js';
import { verdictOf } from './verdict.js';

const CLIENTS = 3;
const PROCESSES_A_CLIENT = 2;
const READ_BACK_LANES = 16;
/** Small, so that a run fills several segments. */
const SEGMENT_BYTES = 64 << 10;
/** Size of a disk, bytes: the log of a run twice, as during a start, and what fills it. */
const DISK_BYTES_MIN = 16 << 20;
const DISK_BYTES_A_SECOND = 512 << 10;
/** Share of the clients with a timestamp lead, as if their clock were fast, and the largest lead, ns. */
const FAST_CLIENTS = 0.3;
const LEAD_NS_MAX = 20e6;

/** How long an operation of each client may take when the trouble is over. */
const COMMIT_LIMIT_MS = 10_000;

export interface ChaosOptions {
  readonly seed: number;
  readonly replicas: number;
  readonly durability: Durability;
  readonly seconds: number;
  /** Called for each action as it happens. */
  readonly say: (line: string) => void;
}

export interface ChaosResult {
  readonly seed: number;
  readonly replicas: number;
  readonly durability: Durability;
  readonly authenticated: boolean;
  readonly committed: number;
  readonly unknown: number;
  readonly acknowledgedOnce: number;
  readonly longestPauseMs: number;
  /** From the end of the trouble to normal operation of all replicas. */
  readonly recoveryMs: number;
  readonly views: number;
  readonly done: Readonly<Record<string, number>>;
  readonly relay: RelayCounts;
  readonly history: 'linearizable' | 'violation' | 'unknown' | 'not judged';
  /** Acknowledged writes that were not there in the end. */
  readonly lost: readonly string[];
  /** Trouble that is not possible on this host. */
  readonly notTried: readonly string[];
  /** What went wrong; empty if nothing did. */
  readonly failures: readonly string[];
  readonly events: readonly HistoryEvent[];
}

/** Odd seeds authenticate every datagram, so that both kinds of cluster are tried. */
function isAuthenticated(seed: number): boolean {
  return seed % 2 === 1;
}

/** In half of the seeds of either kind, all clocks are ahead at the start. */
export function beginsAhead(seed: number): boolean {
  return (seed >> 1) % 2 === 1;
}

export async function chaos({ seed, replicas, durability, seconds, say }: ChaosOptions): Promise<ChaosResult> {
  const random = new Random(seed);
  const authenticated = isAuthenticated(seed);
  let relay = new Relay(random.fork('relay'));
  let addresses: readonly string[] = [];
  const detour = async (listening: readonly string[]): Promise<(id: number) => readonly string[]> => {
    await relay.close();
    relay = new Relay(random.fork('relay'));
    addresses = listening;
    const known = await Promise.all(listening.map((_, id) => relay.connect(String(id), listening)));
    return (id) => known[id]!;
  };
  const failures: string[] = [];
  const load = new Load();
  const clients: Client[] = [];
  const disks = Disks.mount(replicas, DISK_BYTES_MIN + seconds * DISK_BYTES_A_SECOND);
  const clocks = Clocks.make(replicas, beginsAhead(seed), random.fork('clock'));
  const busy = new Busy();
  const notTried: string[] = [];
  if (typeof clocks !== 'string') say(`clocks are ${clocks.spec}, ${(clocks.aheadNs / 1e9).toFixed(3)} s ahead`);
  if (typeof disks === 'string') notTried.push(`full disks (${disks})`);
  if (typeof clocks === 'string') notTried.push(`wrong clocks (${clocks})`);
  try {
    await using cluster = await LocalCluster.start({
      replicas,
      machine: 'kv',
      transport: 'auto',
      idle: 'block',
      durability,
      authenticated,
      detour,
      replicaFlags: ['--segment-bytes', String(SEGMENT_BYTES)],
      ...(typeof disks === 'string' ? {} : { dataDirectory: (id: number) => disks.path(id) }),
      ...(typeof clocks === 'string'
        ? {}
        : { clock: clocks.spec, environment: (id: number) => clocks.environment(id) }),
    });
    const keys = authenticated
      ? { keys: JSON.parse(readFileSync(join(cluster.directory, KEY_FILE_NAMES.client), 'utf8')) as KeyFile }
      : {};
    const names = Array.from({ length: CLIENTS }, (_, i) => `c${i}`);
    const leads = random.fork('leads');
    for (const name of names) {
      const leadNs = leads.chance(FAST_CLIENTS) ? leads.below(LEAD_NS_MAX) : 0;
      const config = { ...cluster.config(), replicas: await relay.connect(name, addresses) };
      const client = await Client.connect({
        cluster: config,
        ...keys,
        lanes: PROCESSES_A_CLIENT,
        connectTimeout: 20_000,
        idle: 'block',
        leadNs,
        logger: silentLogger,
      });
      clients.push(client);
      load.start(client, PROCESSES_A_CLIENT, random.fork(name));
    }
    const tormentor = new Tormentor(
      cluster,
      relay,
      names,
      typeof disks === 'string' ? undefined : disks,
      typeof clocks === 'string' ? undefined : clocks,
      busy,
      random.fork('tormentor'),
      say,
    );
    let recoveryMs = NaN;
    let lost: string[] = [];
    let views = 0;
    try {
      await tormentor.run(seconds * 1000);
      await load.stop();
      recoveryMs = await tormentor.recovery();
      views = Math.max(...(await cluster.ask('stats')).map((answer) => Number(answer?.status['view'] ?? 0)));
      const stuck = await load.commitOnceMore(clients, COMMIT_LIMIT_MS);
      if (stuck.length > 0)
        failures.push(
          `clients ${stuck.join(',')} commit nothing within ${COMMIT_LIMIT_MS / 1000} s, though all is well`,
        );
      await using reader = await Client.connect({
        cluster: cluster.config(),
        ...keys,
        lanes: READ_BACK_LANES,
        connectTimeout: 20_000,
        logger: silentLogger,
      });
      lost = await load.readBack(reader, READ_BACK_LANES);
    } catch (error) {
      failures.push(error instanceof Error ? error.message : String(error));
    }
    await load.stop();
    tormentor.over = true;
    failures.push(...tormentor.fallen);
    return {
      seed,
      replicas,
      durability,
      authenticated,
      recoveryMs,
      views,
      done: tormentor.done,
      relay: relay.counts,
      notTried,
      ...verdictOf(load, lost, failures),
    };
  } finally {
    await load.stop();
    busy.close();
    for (const client of clients) await client.close();
    await relay.close();
    if (typeof disks !== 'string') disks.close();
    if (typeof clocks !== 'string') clocks.close();
  }
}
