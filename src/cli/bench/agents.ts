/**
 * `bench load --agents`: the coordinator. It sends nothing to the cluster but what removes the keys of the bench: the
 * load comes from the agents. It checks them, has them connect, starts all at one instant, and adds up their logs with
 * the code of `bench merge`.
 *
 * The rule: an agent that is lost costs its own figures, never those of the others, and the result names it. If anything
 * is wrong before the start, nothing is measured.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { cpus, hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { HostClock } from '../../clock/host-clock.js';
import type { Output } from '../../console/command.js';
import { CliError, Exit, messageOf } from '../../console/exit.js';
import { writeOutput, writingOutput } from '../../console/output-file.js';
import { keysOf } from '../../console/settings.js';
import type { TransportChoice } from '../../console/transport-flags.js';
import { formatCount } from '../../console/units.js';
import { warnWithoutKeys } from '../../console/without-keys.js';
import { loadCluster } from '../../host/cluster-config.js';
import { openKeys } from '../../host/keyring.js';
import { version } from '../../host/version.js';
import { formatHgrm } from '../../metrics/hgrm.js';
import { AgentLink, type AgentAddress } from '../../measure/agents/agent-link.js';
import { AgentsDisplay } from '../../measure/agents/agents-display.js';
import { judgeClocks, type Agreement, type ClockVerdict } from '../../measure/agents/clock-agreement.js';
import type { AgentResult } from '../../measure/agents/control-messages.js';
import { controlKeys } from '../../measure/agents/handshake.js';
import type { LoadOrder } from '../../measure/agents/load-order.js';
import { newRunId } from '../../measure/hlog/log-writer.js';
import { Merge, MERGED_MAX } from '../../measure/hlog/merge.js';
import { writeMergedLog, type MergedLog } from '../../measure/hlog/merged-log.js';
import { BENCH_PREFIX, BenchKeys } from '../../measure/load/bench-keys.js';
import { checkAssertions, hostInfo, type Asserted, type Assertion } from '../../measure/load/bench-report.js';
import { addCounts, NO_COUNTS } from '../../measure/load/counts.js';
import { Interruption } from '../../measure/load/interruption.js';
import { wallClockMs } from '../../measure/load/wall-seconds.js';
import { mergeJson, mergePage, mergeText } from '../../measure/report/merge-page.js';
import type { RunSettings } from '../../measure/hlog/log-format.js';

/** Agents have at least this long to hear of the start. */
const AHEAD_MS = 2_000;
const MS_PER_SECOND = 1_000;
const NS_PER_MS = 1e6;
/** An agent that still says that it runs this long after its load should have ended is given up. */
const LATE_MS = 60_000;
/** Different seeds for all agents, from one. */
const SEED_STEP = 7_919;
const SEEDS = 2 ** 31;

export interface AgentsLoad extends TransportChoice {
  readonly agents: readonly AgentAddress[];
  readonly cluster: string;
  readonly 'key-file': string | undefined;
  /** For all agents together; `run` and `seed` are each agent's own. */
  readonly order: LoadOrder;
  /** ms since the epoch; undefined: as soon as all are ready. */
  readonly startAtMs: number | undefined;
  readonly report: string | undefined;
  readonly hgrm: string | undefined;
  readonly hlog: string | undefined;
  readonly assertions: readonly Assertion[];
}

/** `a:7500,b:7500`. Throws CliError `flag-invalid`. */
export function parseAgents(text: string): AgentAddress[] {
  const agents = text.split(',').map((part): AgentAddress => {
    const name = part.trim();
    const match = /^(?:\[([^\]]+)\]|([^:[\]\s]+)):(\d{1,5})$/.exec(name);
    const port = Number(match?.[3]);
    if (match === null || port < 1 || port > 65_535)
      throw new CliError('flag-invalid', `--agents: "${name}" is not HOST:PORT; write a list such as a:7500,b:7500`);
    return { name, host: match[1] ?? match[2]!, port };
  });
  if (agents.length > MERGED_MAX)
    throw new CliError('flag-invalid', `--agents names ${agents.length}; at most ${MERGED_MAX} are added up`);
  const twice = agents.find(({ name }, at) => agents.findIndex((other) => other.name === name) !== at);
  if (twice !== undefined)
    throw new CliError('flag-invalid', `--agents names ${twice.name} twice; name each agent once`);
  return agents;
}

/** How one agent's part ended. */
interface Part {
  readonly link: AgentLink;
  readonly clock: ClockVerdict;
  readonly result: AgentResult | undefined;
  /** Why there is no result. */
  readonly error: Error | undefined;
}

/**
 * Throws CliError `agent-unreachable`, `agent-refused` or `agent-lost` if nothing could be measured; `agent-lost` too,
 * after the result was printed, if it lacks an agent; `interrupted`; and the errors of files and assertions.
 */
export async function loadByAgents(load: AgentsLoad, output: Output): Promise<number> {
  const { order, cluster: clusterFile } = load;
  using interruption = new Interruption();
  warnWithoutKeys(output, loadCluster(clusterFile));
  const links = await openLinks(load, output);
  const directory = mkdtempSync(join(tmpdir(), 'jitpaxos-agents-'));
  const removeDirectory = (): void => rmSync(directory, { recursive: true, force: true });
  process.once('exit', removeDirectory);
  const written =
    order.machine === 'kv' && Object.keys(order.mix).some((operation) => operation !== 'read')
      ? new BenchKeys(clusterFile, `${BENCH_PREFIX}key-`, order.keys, { transport: load.transport, idle: load.idle })
      : undefined;
  try {
    if (written !== undefined) output.note(written.announcement);
    const agreement = await prepared(links, order, output);
    const parts = await run(load, links, agreement, output, interruption);
    const merge = new Merge();
    const logs = await gathered(parts, directory, merge);
    for (const { link } of parts) link.end();
    const failure = failureOf(parts, merge, interruption);
    if (merge.runs.length === 0) throw failure ?? new CliError('agent-lost', 'no agent has a result; run again');
    const keysLeft = await written?.remove();
    write(load, merge, logs, parts, agreement, keysLeft, output);
    if (failure !== undefined) throw failure;
    checkAssertions(load.assertions, assertedOf(parts, merge));
    return Exit.done;
  } finally {
    for (const link of links) link.end();
    removeDirectory();
    process.removeListener('exit', removeDirectory);
  }
}

/** All of them, or none: every agent that is wrong is named. */
async function openLinks(load: AgentsLoad, output: Output): Promise<AgentLink[]> {
  const { agents, cluster: clusterFile } = load;
  const cluster = loadCluster(clusterFile);
  const keys = openKeys(cluster, clusterFile, keysOf(load).keys, 'client');
  const options = {
    cluster: cluster.id,
    keys: controlKeys(keys?.ring),
    by: `process ${process.pid} of ${hostname()}`,
    version: version(),
  };
  const opened = await Promise.allSettled(agents.map((agent) => AgentLink.open({ ...agent, ...options })));
  const links = opened.flatMap((each) => (each.status === 'fulfilled' ? [each.value] : []));
  const errors = opened.flatMap((each) => (each.status === 'rejected' ? [each.reason as Error] : []));
  const other = links.find(({ facts }) => facts.replicas !== cluster.replicas.length);
  if (other !== undefined)
    errors.push(
      new CliError(
        'agent-refused',
        `agent ${other.name}: its cluster file lists ${other.facts.replicas} replicas, and ${clusterFile} ${cluster.replicas.length}; give all hosts the same file`,
      ),
    );
  keys?.ring.close();
  if (errors.length === 0) {
    output.note(
      `agents: ${links.map(({ name, facts }) => `${name} (${facts.host}, ${facts.cores} cores)`).join(', ')}`,
    );
    return links;
  }
  for (const link of links) link.end();
  for (const error of errors.slice(1)) output.note(messageOf(error));
  throw errors[0];
}

/** Has all agents connect their clients, and compares the clocks. */
async function prepared(links: readonly AgentLink[], order: LoadOrder, output: Output): Promise<Agreement> {
  await Promise.all(
    links.map((link, index) =>
      link.prepare({
        ...order,
        run: newRunId(),
        seed: (order.seed + index * SEED_STEP) % SEEDS,
        ratePerSecond: order.ratePerSecond / links.length,
      }),
    ),
  );
  // One after the other: exchanges that wait for each other would look like distance.
  for (const link of links) await link.measureOffset();
  const own = await HostClock.open('realtime');
  const agreement = judgeClocks(
    own.quality,
    links.map(({ facts, offset }) => ({ stated: facts.clock, offset: offset! })),
  );
  own.close();
  links.forEach(({ name }, index) => {
    const { remark } = agreement.agents[index]!;
    if (remark !== undefined) output.note(`clock: ${name}: ${remark}`);
  });
  if (agreement.own.trust === 'wrong') output.note(`clock: this host: ${agreement.own.remark}`);
  return agreement;
}

async function run(
  load: AgentsLoad,
  links: readonly AgentLink[],
  agreement: Agreement,
  output: Output,
  interruption: Interruption,
): Promise<Part[]> {
  const { order, startAtMs } = load;
  const lengthMs = (order.warmupNs + order.durationNs) / NS_PER_MS;
  const now = (): number => wallClockMs() - agreement.ownAheadNs / NS_PER_MS;
  const atMs = startAtMs ?? Math.ceil((now() + AHEAD_MS) / MS_PER_SECOND) * MS_PER_SECOND;
  if (atMs - now() < AHEAD_MS / 2)
    throw new CliError('flag-invalid', '--start-at passed before all agents were ready; give a later time');
  const title = `${links.length} agent${links.length === 1 ? '' : 's'}, ${formatCount(order.ratePerSecond)}/s offered, ${order.arrivals} arrivals, seed ${order.seed}`;
  output.note(`load: ${title}, starts at ${new Date(Math.floor(atMs)).toISOString()}`);
  const results: (AgentResult | undefined)[] = links.map(() => undefined);
  const display = new AgentsDisplay(output, title, lengthMs / MS_PER_SECOND, () =>
    links.map(({ name, progress, lost }, index) => ({
      name,
      progress,
      lost,
      isDone: results[index] !== undefined,
      doubtful: agreement.agents[index]!.trust !== 'good',
    })),
  );
  const over = new AbortController();
  const limitMs = atMs - now() + lengthMs + order.timeoutNs / NS_PER_MS + LATE_MS;
  delay(limitMs, undefined, { signal: over.signal }).then(
    () => links.forEach((link, index) => results[index] === undefined && link.giveUp('its load did not end')),
    () => undefined,
  );
  try {
    return await interruption.during(
      () => links.forEach((link) => link.stop()),
      () =>
        Promise.all(
          links.map(async (link, index): Promise<Part> => {
            const clock = agreement.agents[index]!;
            try {
              await link.start(atMs + clock.aheadNs / NS_PER_MS);
              const result = await link.result;
              results[index] = result;
              return { link, clock, result, error: undefined };
            } catch (error) {
              return { link, clock, result: undefined, error: error as Error };
            }
          }),
        ),
    );
  } finally {
    over.abort();
    display.end();
  }
}

/** Fetches the logs, and adds them up. A log that cannot be had, or that is no log, is missing in the sum. */
async function gathered(parts: readonly Part[], directory: string, merge: Merge): Promise<MergedLog[]> {
  const logs: MergedLog[] = [];
  for (const [index, { link, clock, result, error }] of parts.entries()) {
    const path = join(directory, `${index}.hlog`);
    const aheadSeconds = clock.aheadNs / 1e9;
    try {
      if (result === undefined) throw error ?? new Error('it has no result');
      await link.fetchLog(path, result.logBytes);
      merge.addLog(link.name, path, {
        aheadSeconds,
        remarks: [...(clock.remark === undefined ? [] : [clockRemark(clock)])],
      });
      logs.push({ path, aheadSeconds });
    } catch (failure) {
      merge.lacks(link.name, lackOf(link, failure));
    }
  }
  return logs;
}

function clockRemark({ remark, aheadNs }: ClockVerdict): string {
  return `${remark}${aheadNs === 0 ? '' : '; its times are corrected by that'}`;
}

function lackOf({ lost, progress }: AgentLink, failure: unknown): string {
  if (lost === undefined) return messageOf(failure);
  const seen =
    progress === undefined
      ? ', before it reported anything'
      : ` after ${progress.seconds.toFixed(1)} s; the ${formatCount(progress.histogram.count)} operations that it had reported are left out`;
  return `it was lost (${lost})${seen}`;
}

/** Why the command fails although there may be a result. */
function failureOf(parts: readonly Part[], merge: Merge, interruption: Interruption): Error | undefined {
  const missing = merge.missing.map(({ name }) => name);
  if (missing.length === parts.length && interruption.stopped)
    return new CliError('interrupted', 'before anything was measured; run again');
  if (missing.length === parts.length) return parts.find(({ error }) => error !== undefined)?.error;
  if (missing.length > 0)
    return new CliError(
      'agent-lost',
      `agent${missing.length === 1 ? '' : 's'} ${missing.join(', ')}: lost, or without a result, so the printed sum is partial; look at the host and the output of each`,
    );
  if (interruption.stopped) return new CliError('interrupted', 'what is printed was measured until then');
  const failed = parts.find(({ result }) => typeof result?.failure === 'string');
  return failed === undefined
    ? undefined
    : new CliError('agent-lost', `agent ${failed.link.name} ended early: ${failed.result!.failure}`);
}

function write(
  load: AgentsLoad,
  merge: Merge,
  logs: readonly MergedLog[],
  parts: readonly Part[],
  agreement: Agreement,
  keysLeft: number | undefined,
  output: Output,
): void {
  const { report, hgrm, hlog } = load;
  const run = newRunId();
  if (output.json)
    output.line(
      JSON.stringify({
        ...mergeJson(merge),
        run,
        commandLine: load.order.commandLine,
        ...(keysLeft === undefined ? {} : { keysLeft }),
        missing: merge.missing,
        ownClock: agreement.own,
        agents: parts.map(({ link, clock, result, error }) => ({
          name: link.name,
          ...link.facts,
          type: undefined,
          trust: clock.trust,
          aheadNs: clock.aheadNs,
          offset: link.offset,
          lost: result === undefined ? (link.lost ?? messageOf(error)) : null,
          counts: result?.counts ?? null,
          failure: result?.failure ?? null,
        })),
      }),
    );
  else output.line(mergeText(merge));
  if (output.json) for (const flaw of merge.flaws()) output.note(flaw);
  if (keysLeft !== undefined && keysLeft > 0) output.note(`store: up to ${formatCount(keysLeft)} keys are left`);
  writeOutput('hgrm', hgrm, () => formatHgrm(merge.latency));
  writeOutput('report', report, () => mergePage(merge));
  if (hlog !== undefined)
    writingOutput('hlog', hlog, () => writeMergedLog(hlog, run, settingsOf(load, parts), logs, merge));
}

function settingsOf({ order, cluster: clusterFile, agents }: AgentsLoad, parts: readonly Part[]): RunSettings {
  const { commandLine, machine, mix, opBytes, opBytesMax, clients, lanes, arrivals, seed, keys, distribution } = order;
  const cluster = loadCluster(clusterFile);
  const measured = parts.filter(({ result }) => result !== undefined).length;
  return {
    command: 'load',
    version: version(),
    commandLine,
    host: { ...hostInfo(), cores: cpus().length },
    replicas: cluster.replicas.length,
    machine,
    mix,
    opBytes,
    opBytesMax,
    authenticated: cluster.authentication === 'keys',
    clients: clients * Math.max(1, measured),
    lanes,
    rates: [(order.ratePerSecond * measured) / agents.length],
    arrivals,
    seed,
    keys: machine === 'kv' ? keys : null,
    distribution: machine === 'kv' ? distribution : null,
  };
}

function assertedOf(parts: readonly Part[], merge: Merge): Asserted {
  const counts = parts.reduce((sum, { result }) => addCounts(sum, result?.counts ?? NO_COUNTS), NO_COUNTS);
  const { committed, fast, rejected, reconciled, retransmitted, failed, viewChanges } = counts;
  return {
    latencyNs: merge.latency.summary(),
    opsPerSecond: merge.opsPerSecond ?? NaN,
    operations: merge.runs.reduce((sum, run) => sum + run.operations, 0),
    seconds: Math.max(...merge.runs.map(({ startSeconds, endSeconds }) => (endSeconds ?? 0) - (startSeconds ?? 0))),
    fastPathRatio: committed === 0 ? null : fast / committed,
    rejected,
    reconciled,
    retransmitted,
    failed,
    viewChanges,
  };
}
