/**
 * One client of a cluster in its own process, because the stand-in for hardware is preloaded when a process starts.
 * Runs operations one after the other until it is told to stop, and hands over what it saw.
 */
import { Client } from '../../../src/client/client.js';
import { KvClient } from '../../../src/client/kv-client.js';
import { RecordedKv, type KvOperation } from '../../../src/measure/load/recorded-kv.js';
import { lineLogger } from '../../../src/host/logger.js';
import { Random } from '../../../src/sim/random.js';
import type { ClientPhase, FromClient, ToClient } from './messages.js';

const SHARED_KEYS = 4;
/** New shared keys this often, so that no key's history grows without bound. */
const PERIOD_MS = 200;
const TIMEOUT_MS = 10_000;

const [cluster, clock, name, seed] = process.argv.slice(2) as [string, string, string, string];
const log: string[] = [];
/** A large message takes a while: later ones wait for `sent`. */
const say = (message: FromClient, sent?: () => void): void => void process.send!(message, undefined, {}, sent);

const client = await Client.connect({
  cluster,
  clock,
  lanes: 1,
  connectTimeout: 20_000,
  idle: 'block',
  logger: lineLogger({ level: 'info', format: 'json', write: (line) => log.push(line) }),
});
const kv = new KvClient(client);
const recorded = new RecordedKv(() => Number(process.hrtime.bigint()));
const random = new Random(Number(seed));
let id = recorded.newProcess();
let values = 0;
let seen: string | null = null;
let unknown = 0;

async function run(ms: number): Promise<ClientPhase> {
  const before = client.stats();
  const latenciesNs: number[] = [];
  let longestPauseNs = 0;
  let last = process.hrtime.bigint();
  const end = last + BigInt(ms) * 1_000_000n;
  while (last < end) {
    const operation = choose();
    const result = await recorded.run(kv, id, operation, TIMEOUT_MS);
    const now = process.hrtime.bigint();
    longestPauseNs = Math.max(longestPauseNs, Number(now - last));
    // Reads append nothing and carry no timestamp that decides anything.
    if (operation.f !== 'read') latenciesNs.push(Number(now - last));
    last = now;
    if (result === undefined) {
      unknown++;
      id = recorded.newProcess();
    } else if (operation.f === 'read') seen = result.value as string | null;
  }
  const after = client.stats();
  return {
    latenciesNs,
    longestPauseNs,
    commits: after.commits - before.commits,
    fast: after.fastCommits - before.fastCommits,
    clock: after.clock,
  };
}

/** All clients use the same keys in the same period: the clock that they share tells which period it is. */
function choose(): KvOperation {
  const key = `k${Math.floor(Number(process.hrtime.bigint()) / 1e6 / PERIOD_MS)}-${random.below(SHARED_KEYS)}`;
  const value = `${name}-${++values}`;
  const draw = random.unit();
  if (draw < 0.25) return { f: 'read', key };
  if (draw < 0.75) return { f: 'write', key, value };
  return { f: 'cas', key, compare: seen, value };
}

process.on('message', (message) => {
  const { type, ms } = message as ToClient;
  if (type === 'run') void run(ms).then((phase) => say({ type: 'phase', phase }));
  else {
    say(
      { type: 'end', events: recorded.events, unknown, log, clock: client.stats().clock },
      () => void client.close().then(() => process.disconnect()),
    );
  }
});
process.once('disconnect', () => process.exit());
say({ type: 'ready' });
