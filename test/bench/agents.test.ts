// bench agent and bench load --agents, with real processes on loopback.
import t from 'tap';
import { spawn, type ChildProcess } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { readHlog } from '../../src/measure/hlog/log-reader.js';
import { LocalCluster } from '../../src/measure/local-cluster.js';
import type { HistogramData } from '../../src/metrics/histogram.js';
import { jitpaxos, MAIN, type Ended } from '../cluster/processes.js';

const directory = mkdtempSync(join(tmpdir(), 'jitpaxos-agents-test-'));
// Of agents: what they leave there would be seen.
const agentsTemporary = mkdtempSync(join(tmpdir(), 'jitpaxos-agents-temporary-'));
// Of coordinators. One that is killed leaves its directory; the others leave nothing.
const coordinatorsTemporary = mkdtempSync(join(tmpdir(), 'jitpaxos-coordinators-temporary-'));
const COORDINATOR = { env: { TMPDIR: coordinatorsTemporary } };
let killedCoordinators = 0;
const WRONG_CLOCK = fileURLToPath(new URL('./wrong-clock-agent.js', import.meta.url));
const processes = new Set<ChildProcess>();
const cluster = await LocalCluster.start({
  replicas: 1,
  machine: 'kv',
  transport: 'auto',
  durability: 'memory',
  authenticated: true,
});
t.teardown(async () => {
  for (const child of processes) child.kill('SIGKILL');
  await cluster.close();
  for (const path of [directory, agentsTemporary, coordinatorsTemporary])
    rmSync(path, { recursive: true, force: true });
});

interface Agent {
  readonly child: ChildProcess;
  readonly address: string;
  /** Its exit code. */
  readonly ended: Promise<number | null>;
  /** Resolves when stderr or stdout has this. */
  said(text: RegExp): Promise<string>;
  stop(): Promise<number | null>;
}

/** Starts an agent, as a command or another program, and waits until it listens. */
async function startAgent(flags: readonly string[] = [], program?: readonly string[]): Promise<Agent> {
  const args = program ?? [MAIN, 'bench', 'agent', '--listen', '127.0.0.1:0', '--cluster', cluster.clusterFile];
  const child = spawn(process.execPath, [...args, ...(program === undefined ? ['--json', ...flags] : flags)], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, TMPDIR: agentsTemporary },
  });
  processes.add(child);
  const ended = new Promise<number | null>((resolve) => child.once('exit', resolve));
  let text = '';
  for (const stream of [child.stdout!, child.stderr!])
    stream.setEncoding('utf8').on('data', (more: string) => (text += more));
  const said = async (wanted: RegExp): Promise<string> => {
    for (let i = 0; i < 2_400 && child.exitCode === null; i++) {
      const found = wanted.exec(text);
      if (found !== null) return found[1] ?? found[0];
      await delay(50);
    }
    throw new Error(`it did not say ${String(wanted)}: ${text}`);
  };
  const address = await said(/"listen":"([^"]+)"/);
  return {
    child,
    address,
    ended,
    said,
    stop: () => {
      child.kill('SIGTERM');
      return ended;
    },
  };
}

const stop = async (...agents: readonly Agent[]): Promise<void> => {
  await Promise.all(agents.map((agent) => agent.stop()));
};

/** The arguments of a coordinator; `flags`: pairs that replace those here, and --json. */
function loadOf(agents: readonly Agent[], ...flags: readonly string[]): string[] {
  const values = new Map<string, string | undefined>([
    ['--cluster', cluster.clusterFile],
    ['--agents', agents.map(({ address }) => address).join(',')],
    ['--rate', '100'],
    ['--duration', '2s'],
    ['--warmup', '200ms'],
    ['--keys', '20'],
  ]);
  for (let at = 0; at < flags.length; at++) values.set(flags[at]!, flags[at] === '--json' ? undefined : flags[++at]!);
  return ['bench', 'load', ...[...values].flatMap(([flag, value]) => (value === undefined ? [flag] : [flag, value]))];
}

/** A coordinator whose process can be signalled. */
function coordinator(args: readonly string[]): {
  child: ChildProcess;
  ended: Promise<Ended>;
  said(text: RegExp): Promise<void>;
} {
  const child = spawn(process.execPath, [MAIN, ...args], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, ...COORDINATOR.env },
  });
  processes.add(child);
  let [stdout, stderr] = ['', ''];
  child.stdout.setEncoding('utf8').on('data', (more: string) => (stdout += more));
  child.stderr.setEncoding('utf8').on('data', (more: string) => (stderr += more));
  const ended = new Promise<Ended>((resolve) =>
    child.once('close', (code) => resolve({ code: code ?? -1, stdout, stderr })),
  );
  return {
    child,
    ended,
    said: async (wanted) => {
      for (let i = 0; i < 2_400 && child.exitCode === null && !wanted.test(stderr); i++) await delay(50);
      if (!wanted.test(stderr)) throw new Error(`it did not say ${String(wanted)}: ${stderr}`);
    },
  };
}

interface Merged {
  readonly runs: readonly {
    readonly name: string;
    readonly latencies: number;
    readonly startSeconds: number;
    readonly partial: string | null;
  }[];
  readonly latencies: number;
  readonly operations: number;
  readonly histogram: HistogramData;
  readonly flaws: readonly string[];
  readonly missing: readonly { readonly name: string; readonly why: string }[];
  readonly agents: readonly { readonly name: string; readonly trust: string; readonly aheadNs: number }[];
  readonly keysLeft?: number;
}

/** Throws what the command complained about, if it has no result. */
function merged({ stdout, stderr }: Ended): Merged {
  if (stdout === '') throw new Error(stderr);
  return JSON.parse(stdout) as Merged;
}

t.test('two agents: they begin together, the sum has every operation, and nothing is left', async (t) => {
  const agents = [await startAgent(), await startAgent()];
  const hlog = join(directory, 'sum.hlog');
  const report = join(directory, 'sum.html');
  const hgrm = join(directory, 'sum.hgrm');
  const ended = await jitpaxos(
    loadOf(agents, '--hlog', hlog, '--report', report, '--hgrm', hgrm, '--assert', 'operations>100', '--json'),
    COORDINATOR,
  );
  t.equal(ended.code, 0, ended.stderr);
  const sum = merged(ended);
  t.equal(sum.runs.length, 2);
  t.equal(sum.latencies, sum.runs[0]!.latencies + sum.runs[1]!.latencies);
  t.same(sum.missing, []);
  t.equal(sum.keysLeft, 0);
  const skewMs = Math.abs(sum.runs[0]!.startSeconds - sum.runs[1]!.startSeconds) * 1000;
  t.comment(`skew ${skewMs.toFixed(3)} ms`);
  t.ok(skewMs <= 1, `${skewMs} ms`);
  const log = readHlog(hlog);
  t.same(log.latency.toData(), sum.histogram, 'the log of the sum has the same buckets, and exact extremes');
  t.equal(log.end!.partial, null);
  t.match(readFileSync(report, 'utf8'), /2 runs added up/);
  t.match(readFileSync(hgrm, 'utf8'), new RegExp(`Total count\\s+=\\s+${sum.latencies}`));
  const again = await jitpaxos(['bench', 'merge', hlog, '--json']);
  t.same(merged(again).histogram, sum.histogram);

  const second = await jitpaxos(loadOf(agents, '--assert', 'p99<1ns'), COORDINATOR);
  t.equal(second.code, 4, 'the agents wait for the next coordinator, and assertions are checked');
  t.match(second.stdout, /^all\s/m);
  for (const { address } of agents) t.match(second.stdout, address);
  await stop(...agents);
  t.same(readdirSync(agentsTemporary), []);
});

t.test('an agent that is killed is named, and the others are added up as partial', async (t) => {
  const agents = [await startAgent(), await startAgent()];
  const report = join(directory, 'partial.html');
  const hlog = join(directory, 'partial.hlog');
  const running = coordinator(loadOf(agents, '--duration', '6s', '--report', report, '--hlog', hlog, '--json'));
  await running.said(/starts at/);
  await delay(3_000);
  agents[1]!.child.kill('SIGKILL');
  const ended = await running.ended;
  t.equal(ended.code, 1, ended.stderr);
  t.match(ended.stderr, new RegExp(`^agent-lost: agent ${agents[1]!.address}`, 'm'));
  const sum = merged(ended);
  t.same(
    sum.runs.map(({ name, partial }) => [name, partial]),
    [[agents[0]!.address, null]],
    'the other one is whole',
  );
  t.match(sum.missing, [{ name: agents[1]!.address, why: /it was lost \(.*the connection/ }]);
  t.match(sum.flaws[0], /the sum is partial/);
  t.match(readFileSync(report, 'utf8'), /the sum is partial/);
  t.match(readHlog(hlog).end!.partial, /is missing/);
  await stop(agents[0]!);
});

t.test('an agent that falls silent is lost, and one that is stopped alone is an error', async (t) => {
  const agents = [await startAgent(), await startAgent()];
  const running = coordinator(loadOf(agents, '--duration', '3s'));
  await running.said(/starts at/);
  agents[0]!.child.kill('SIGSTOP');
  await agents[1]!.stop();
  const ended = await running.ended;
  agents[0]!.child.kill('SIGCONT');
  t.equal(ended.code, 1);
  t.match(ended.stderr, /^agent-lost: /m);
  t.equal(ended.stdout, '');
  await agents[0]!.said(/coordinator gone/);
  await stop(agents[0]!);
});

t.test('a second coordinator is told who has the agent', async (t) => {
  const agent = await startAgent();
  const first = coordinator(loadOf([agent], '--duration', '600s'));
  await first.said(/starts at/);
  const second = await jitpaxos(loadOf([agent]), COORDINATOR);
  t.equal(second.code, 1);
  t.match(
    second.stderr,
    new RegExp(`^agent-refused: agent ${agent.address}: process ${first.child.pid} of .* has had it`, 'm'),
  );
  first.child.kill('SIGINT');
  t.match(await first.ended, { code: 1, stderr: /^interrupted: /m }, 'the first one is not disturbed');
  await stop(agent);
});

t.test('a coordinator that is killed: the load stops, and the agent waits for the next', async (t) => {
  const left = readdirSync(agentsTemporary); // of the agent that was killed above
  const agent = await startAgent();
  const first = coordinator(loadOf([agent], '--duration', '600s'));
  await first.said(/starts at/);
  await delay(2_000);
  t.equal(clientsOf(agent).length, 1, 'a client process runs');
  first.child.kill('SIGKILL');
  killedCoordinators++;
  await agent.said(/coordinator gone/);
  for (let i = 0; i < 200 && clientsOf(agent).length > 0; i++) await delay(50);
  t.same(clientsOf(agent), [], 'it is gone');
  const next = await jitpaxos(loadOf([agent], '--duration', '500ms', '--json'), COORDINATOR);
  t.equal(next.code, 0, next.stderr);
  await stop(agent);
  t.same(readdirSync(agentsTemporary), left);
});

/** Process ids of the client processes of an agent. */
function clientsOf({ child }: Agent): string[] {
  const path = `/proc/${child.pid}/task/${child.pid}/children`;
  return existsSync(path)
    ? readFileSync(path, 'utf8')
        .split(' ')
        .filter((pid) => pid.trim() !== '')
    : [];
}

t.test('Ctrl-C ends all agents in order, and the result is partial', async (t) => {
  const agents = [await startAgent(), await startAgent()];
  const running = coordinator(loadOf(agents, '--duration', '600s', '--json'));
  await running.said(/starts at/);
  await delay(4_000);
  running.child.kill('SIGINT');
  const ended = await running.ended;
  t.equal(ended.code, 1, ended.stderr);
  t.match(ended.stderr, /^interrupted: /m);
  const sum = merged(ended);
  t.equal(sum.runs.length, 2);
  for (const { partial } of sum.runs) t.match(partial, /interrupted after/);
  await stop(...agents);
});

t.test('a clock that is off is said, and its times are not taken as they are', async (t) => {
  const right = await startAgent();
  const agents = [right, await startAgent([cluster.clusterFile, '90000', '1000'], [WRONG_CLOCK])];
  // The bound that it states makes it the reference, because nothing is stated of the others' clocks.
  const alone = merged(await jitpaxos(loadOf(agents, '--json'), COORDINATOR));
  t.same(
    alone.agents.map(({ trust }) => trust),
    ['unknown', 'good'],
  );
  t.ok(Math.abs(alone.agents[0]!.aheadNs + 90e9) < 1e9, 'the other one is behind by what was measured');
  const [a, b] = alone.runs;
  t.ok(Math.abs(a!.startSeconds - b!.startSeconds) < 0.1, 'they began together, and are laid side by side');
  t.match(alone.flaws.join('\n'), /nothing states how far its clock is/);

  const two = [
    await startAgent([cluster.clusterFile, '0', '1000'], [WRONG_CLOCK]),
    await startAgent([cluster.clusterFile, '0', '2000'], [WRONG_CLOCK]),
  ];
  const three = [...two, agents[1]!];
  const judged = merged(await jitpaxos(loadOf(three, '--json'), COORDINATOR));
  t.same(
    judged.agents.map(({ trust }) => trust),
    ['good', 'good', 'wrong'],
    'two that agree outvote one',
  );
  t.match(judged.flaws.join('\n'), /its clock is wrong: it states ±1\.00 µs; measured \+90\.0 s/);
  const starts = judged.runs.map(({ startSeconds }) => startSeconds);
  t.ok(Math.max(...starts) - Math.min(...starts) < 0.1, `${starts.join(' ')}`);
  await stop(right, agents[1]!, ...two);
});

t.test('an agent that cannot keep up is named', async (t) => {
  const agents = [await startAgent(['--once']), await startAgent(['--once'])];
  const ended = await jitpaxos(
    loadOf(agents, '--rate', '400k', '--lanes', '1', '--duration', '1s', '--json'),
    COORDINATOR,
  );
  t.equal(ended.code, 0, ended.stderr);
  for (const { address } of agents)
    t.match(merged(ended).flaws.join('\n'), new RegExp(`${address}: its rate was not sustained: `));
  for (const { ended: end } of agents) t.equal(await end, 0, 'with --once they end after a load');
});

t.test('what is not carried out', async (t) => {
  const agent = await startAgent(['--clients-max', '1']);
  for (const [flags, code, message] of [
    [['--clients', '2'], 1, /agent-refused: .*2 clients are more than the 1/],
    [['--rate', '1k..2k'], 2, /flag-invalid: --agents measure at one rate/],
    [['--history', join(directory, 'history')], 2, /flag-invalid: --history and --agents/],
    [['--one-way'], 2, /flag-invalid: --one-way and --agents/],
    [['--agents', `${agent.address},${agent.address}`], 2, /flag-invalid: .*twice/],
    [['--agents', 'nowhere'], 2, /flag-invalid: .*is not HOST:PORT/],
    [['--agents', `${agent.address},127.0.0.1:1`], 3, /agent-unreachable: agent 127\.0\.0\.1:1 .*ECONNREFUSED/],
  ] as const) {
    const ended = await jitpaxos(loadOf([agent], ...flags), COORDINATOR);
    t.equal(ended.code, code, flags.join(' '));
    t.match(ended.stderr, message, flags.join(' '));
    t.equal(ended.stdout, '');
  }
  const keyFile = join(directory, 'other.keys');
  const own = JSON.parse(readFileSync(join(dirname(cluster.clusterFile), 'client.keys'), 'utf8')) as {
    use: number;
    keys: { id: number; secret: string; role: string }[];
  };
  const withKey = async (change: (key: { id: number; secret: string; role: string }) => void): Promise<Ended> => {
    const file = structuredClone(own);
    change(file.keys[0]!);
    file.use = file.keys[0]!.id;
    writeFileSync(keyFile, JSON.stringify(file), { mode: 0o600 });
    return jitpaxos(loadOf([agent], '--key-file', keyFile), COORDINATOR);
  };
  const secret = await withKey((key) => (key.secret = 'ab'.repeat(32)));
  t.equal(secret.code, 1);
  t.match(secret.stderr, /^agent-refused: .*another secret/m);
  const id = await withKey((key) => (key.id = (key.id % 1_000) + 1));
  t.equal(id.code, 1);
  t.match(id.stderr, /^agent-refused: .*it has no key/m);
  await agent.said(/refused connections: .*forged 1/);
  await stop(agent);
});

t.test('without keys: only if asked for, and only on loopback', async (t) => {
  await using plain = await LocalCluster.start({ replicas: 1, machine: 'kv', transport: 'auto', durability: 'memory' });
  const agentOf = (...flags: string[]): Promise<Ended> =>
    jitpaxos(['bench', 'agent', '--cluster', plain.clusterFile, ...flags]);
  const [unasked, elsewhere, needless] = await Promise.all([
    agentOf('--listen', '127.0.0.1:0'),
    agentOf('--listen', '0.0.0.0:0', '--without-keys'),
    jitpaxos(['bench', 'agent', '--cluster', cluster.clusterFile, '--listen', '127.0.0.1:0', '--without-keys']),
  ]);
  t.match(unasked, { code: 1, stderr: /agent-refused: this cluster has no keys/ });
  t.match(elsewhere, { code: 1, stderr: /agent-refused: --without-keys is for loopback only/ });
  t.match(needless, { code: 2, stderr: /flag-invalid: --without-keys is given/ });
  const agent = await startAgent(
    [],
    [MAIN, 'bench', 'agent', '--listen', '127.0.0.1:0', '--cluster', plain.clusterFile, '--without-keys', '--json'],
  );
  const ended = await jitpaxos(loadOf([agent], '--cluster', plain.clusterFile, '--json'), COORDINATOR);
  t.equal(ended.code, 0, ended.stderr);
  t.match(ended.stderr, /warning: this cluster has no keys/);
  await stop(agent);
});

t.test('coordinators leave no directories but those of the ones that were killed', (t) => {
  t.equal(readdirSync(coordinatorsTemporary).length, killedCoordinators);
  t.end();
});
