// Changes of the members with real processes: replicas, the operator's tool, and clients. Processes are killed with
// SIGKILL, the tool after every step that it prints, and every write that was acknowledged is read back.
import { fork, spawn } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { Client } from '../../src/client/client.js';
import { KvClient } from '../../src/client/kv-client.js';
import type { ClusterConfig } from '../../src/host/cluster-config.js';
import { silentLogger } from '../../src/host/logger.js';
import { KvMachine } from '../../src/machine/kv.js';
import type { ReplicaStatusReport } from '../../src/host/status.js';
import { LocalCluster, MAIN, ReplicaProcess } from '../../src/measure/local-cluster.js';
import { Replica } from '../../src/server/replica.js';
import { clusterConfig, freePorts } from '../server/fixtures.js';
import { jitpaxos, patiently } from './processes.js';

/** On a busy host. */
const TIMEOUT_MS = 300_000;
t.setTimeout(4 * TIMEOUT_MS);

/** What a step looks like on stderr. */
const STEP =
  /^(the log knows .*|host \d+ can no longer return: .*|.* is listed, as a learner|epoch \d+ is decided: voters [\d, ]+)$/;
/** Loaded before the program: the process is gone as soon as it has printed a step. */
const KILLED_AFTER_A_STEP = `data:text/javascript,${encodeURIComponent(
  `const { stderr } = process;
const write = stderr.write.bind(stderr);
stderr.write = (text, ...rest) => {
  const result = write(text, ...rest);
  if (${String(STEP)}.test(String(text).trim())) process.kill(process.pid, 'SIGKILL');
  return result;
};`,
)}`;

interface Ended {
  /** Null: it was killed. */
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs the program until it ends. */
function run(args: readonly string[], nodeFlags: readonly string[] = [], cwd?: string): Promise<Ended> {
  const child = spawn(process.execPath, [...nodeFlags, MAIN, ...args], { cwd, stdio: ['ignore', 'pipe', 'pipe'] });
  const [said, complained]: [string[], string[]] = [[], []];
  child.stdout.setEncoding('utf8').on('data', (text: string) => said.push(text));
  child.stderr.setEncoding('utf8').on('data', (text: string) => complained.push(text));
  const timer = setTimeout(() => child.kill('SIGKILL'), TIMEOUT_MS);
  return new Promise((resolve) =>
    child.once('close', (code) => {
      clearTimeout(timer);
      resolve({ code, stdout: said.join(''), stderr: complained.join('') });
    }),
  );
}

/** The command for an operator of this cluster. A host that is slow is waited for. */
function memberArgs(cluster: LocalCluster, keys: string | undefined, args: readonly string[]): string[] {
  return [
    'member',
    ...args,
    ...['--cluster', cluster.clusterFile, '--silence', '60s'],
    ...(keys === undefined ? [] : ['--key-file', keys]),
  ];
}

/** Runs a command again and again, each time until it is killed after a step, and returns the steps and its end. */
async function inPieces(args: readonly string[]): Promise<{ readonly steps: readonly string[]; readonly last: Ended }> {
  const steps: string[] = [];
  for (const deadline = performance.now() + TIMEOUT_MS; ; ) {
    const last = await run(args, ['--import', KILLED_AFTER_A_STEP]);
    if (last.code !== null || performance.now() > deadline) return { steps, last };
    const step = last.stderr.split('\n').find((line) => STEP.test(line)) ?? last.stderr;
    // The next process may ask hosts that have not executed this yet, and do it again.
    if (steps.at(-1) !== step) steps.push(step);
  }
}

/** Whether something became true in time. */
async function until(condition: () => boolean | Promise<boolean>): Promise<boolean> {
  for (const deadline = performance.now() + TIMEOUT_MS; performance.now() < deadline; await sleep(20))
    if (await condition()) return true;
  return false;
}

async function statusOf(replica: ReplicaProcess): Promise<ReplicaStatusReport | undefined> {
  return (await replica.ask('stats'))?.status as unknown as ReplicaStatusReport | undefined;
}

async function killed(replica: ReplicaProcess): Promise<void> {
  if (replica.exited) return;
  const gone = new Promise<void>((resolve) => replica.child.once('exit', () => resolve()));
  replica.kill('SIGKILL');
  await gone;
}

/** A new key, which every running replica has loaded. Returns its file. */
async function newKey(cluster: LocalCluster, role: string): Promise<string> {
  const { code, stdout, stderr } = await jitpaxos([
    ...['keys', 'add', '--role', role, '--cluster', cluster.clusterFile, '--json'],
  ]);
  if (code !== 0) throw new Error(stderr);
  const { added, clientFile } = JSON.parse(stdout) as { added: number; clientFile: string };
  for (const replica of cluster.replicas) replica.kill('SIGHUP');
  for (const replica of cluster.replicas)
    if (!(await until(async () => (await statusOf(replica))?.keys?.loaded.includes(added) === true)))
      throw new Error(`replica ${replica.id} did not load key ${added}`);
  return clientFile;
}

function connect(cluster: string | ClusterConfig, keys?: string): Promise<Client> {
  return Client.connect({
    cluster,
    lanes: 2,
    timeout: TIMEOUT_MS,
    connectTimeout: TIMEOUT_MS,
    logger: silentLogger,
    ...(keys === undefined ? {} : { keys }),
  });
}

/** Writes that go on until they are stopped. */
class Writes {
  readonly acknowledged = new Map<string, string>();
  readonly failed: unknown[] = [];
  private readonly writers: Promise<void>[] = [];
  private stopped = false;

  constructor(private readonly kv: KvClient) {
    for (const writer of [0, 1]) this.writers.push(this.write(writer));
  }

  /** Resolves when some more were acknowledged. */
  async goOn(): Promise<boolean> {
    const before = this.acknowledged.size;
    return until(() => this.acknowledged.size >= before + 4);
  }

  async stop(): Promise<void> {
    this.stopped = true;
    await Promise.all(this.writers);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.stop();
  }

  private async write(writer: number): Promise<void> {
    for (let i = 0; !this.stopped; i++) {
      const key = `${writer}-${i}`;
      try {
        await this.kv.put(key, `value ${i}`);
        this.acknowledged.set(key, `value ${i}`);
      } catch (error) {
        this.failed.push(error);
      }
      await sleep(100);
    }
  }
}

/** Acknowledged writes that are not there. */
async function missing(kv: KvClient, { acknowledged }: Writes): Promise<string[]> {
  const wrong: string[] = [];
  for (const [key, value] of acknowledged) {
    const found = await kv.get(key);
    const text = found === undefined ? 'nothing' : Buffer.from(found).toString();
    if (text !== value) wrong.push(`${key}: ${text} instead of ${value}`);
  }
  return wrong;
}

function votersIn({ stdout }: Ended): readonly number[] {
  return (JSON.parse(stdout) as { voters: number[] }).voters;
}

t.test('one host of three burns down under load, and then all others go, one after the other', async (t) => {
  await using cluster = await LocalCluster.start({
    replicas: 3,
    machine: 'kv',
    transport: 'auto',
    durability: 'os',
    authenticated: true,
  });
  const operator = await newKey(cluster, 'operator');
  await using client = await connect(cluster.clusterFile);
  await using writes = new Writes(new KvClient(client));
  await writes.goOn();
  const member = (...args: string[]): string[] => memberArgs(cluster, operator, args);

  await killed(cluster.replicas[2]!);
  const joining = await cluster.spawnJoining();
  const { address } = joining;
  await t.test("a client's key is refused by name, and changes nothing", async (t) => {
    const key = join(cluster.directory, 'client.keys');
    const refused = await run(memberArgs(cluster, key, ['replace', '2', address, '--alive']));
    t.match(refused, { code: 2, stdout: '', stderr: /^key-role: .*operator/m });
    t.notMatch(refused.stderr, 'is listed');
  });

  await t.test('the tool is killed after each step of the replacement, and run again', async (t) => {
    // The processes that are killed would wait for the silence of host 2 anew.
    const command = member('replace', '2', address, '--alive', '--json');
    const { steps, last } = await inPieces(command);
    t.equal(last.code, 0, last.stderr);
    t.same(votersIn(last), [0, 1, 3]);
    t.same(steps, [
      'the log knows the data directory of host 0',
      'the log knows the data directory of host 1',
      'host 2 can no longer return: the log lists another data directory in its place',
      `${address} is listed, as a learner`,
      'epoch 1 is decided: voters 0, 1, 3',
    ]);
    t.equal(await cluster.joins(joining), 3);
    const again = await run(command);
    t.equal(again.code, 0, again.stderr);
    t.equal(again.stderr, '', 'nothing was left to do');
    t.ok(await writes.goOn());
  });

  await t.test('the host that was replaced comes back with its disk, beside its replacement', async (t) => {
    const old = cluster.spawn(2);
    t.ok(
      await until(async () => (await statusOf(old))?.membership?.role === 'removed'),
      `it finds that it is no member: ${old.complaint}`,
    );
    await old.stop();
    t.ok(await writes.goOn());
  });

  await t.test('it comes back with an empty disk under its old id', async (t) => {
    const data = join(cluster.directory, 'wiped');
    const ended = await run(['replica', '--cluster', cluster.clusterFile, '--id', '2', '--data', data]);
    t.match(ended, { code: 1, stderr: /"code":"replica-removed","error":"host 2 is no member/ });
    t.notMatch(ended.stderr, '"status":"normal"', 'it takes part in nothing');
    t.ok(await writes.goOn());
  });

  await t.test('two operators at once', async (t) => {
    const two = [await cluster.spawnJoining(), await cluster.spawnJoining()];
    const commands = two.map((joiner, i) => member('replace', String(i), joiner.address, '--alive', '--json'));
    const ends = await Promise.all(commands.map((command) => run(command)));
    t.ok(
      ends.some(({ code }) => code === 0),
      'one wins',
    );
    for (const { code, stderr } of ends)
      if (code !== 0) t.match({ code, stderr }, { code: 1, stderr: /^(epoch-mismatch|change-pending): /m });
    // Whoever lost asks again.
    for (const command of commands) {
      const { code, stderr } = await run(command);
      t.equal(code, 0, stderr);
    }
    const ids = await Promise.all(two.map((joiner) => cluster.joins(joiner)));
    const membersIn = ({ stdout }: Ended) =>
      JSON.parse(stdout) as { started: number; members: { id: number; votes: boolean }[] };
    const expected = [3, ...ids.sort()];
    const list = await patiently(
      (timeout) => run(['member', 'list', '--cluster', cluster.clusterFile, '--json', '--timeout', timeout]),
      (ended) =>
        membersIn(ended)
          .members.map(({ id }) => id)
          .join() === expected.join(), // host 2 is silent
    );
    const { members, started } = membersIn(list);
    t.same(
      members.map(({ id, votes }) => [id, votes]),
      expected.map((id) => [id, true]),
    );
    t.ok(started >= 3, 'one epoch for each change');
    t.ok(await writes.goOn());
  });

  await writes.stop();
  t.same(writes.failed, [], 'no operation failed');
  const written = join(cluster.directory, 'written.json');
  await t.test('a client whose file names one removed host that runs, and two that are gone', async (t) => {
    await killed(cluster.replicas[1]!);
    await using late = await connect(cluster.clusterFile);
    t.same(await missing(new KvClient(late), writes), [], `${writes.acknowledged.size} writes`);
    const writtenVoters = () => (JSON.parse(readFileSync(written, 'utf8')) as ClusterConfig).replicas;
    const voters = cluster.replicas.slice(3).map(({ ready }) => `127.0.0.1:${ready!.port}`);
    const list = await patiently(
      (timeout) => run(['member', 'list', '--cluster', cluster.clusterFile, '--timeout', timeout, '--write', written]),
      ({ code }) => code === 0 && writtenVoters().join() === voters.join(),
    );
    t.equal(list.code, 0, list.stdout + list.stderr);
    t.same(writtenVoters(), voters);
  });

  await t.test('nobody is left whom the old file names', async (t) => {
    await killed(cluster.replicas[0]!);
    const keys = join(cluster.directory, 'client.keys');
    const lost = await run(['kv', 'get', '0-0', '--cluster', cluster.clusterFile, '--timeout', '2s']);
    t.match(lost, { code: 3, stderr: /^cluster-unavailable: / });
    for (const address of cluster.config().replicas) t.match(lost.stderr, address, 'it names those that it asked');
    const found = await run(['kv', 'get', '0-0', '--cluster', written, '--key-file', keys]);
    t.match(found, { code: 0, stdout: 'value 0\n' });
    // In the new file the third address is that of another host.
    const ended = await run([
      ...['replica', '--cluster', written, '--keys', join(cluster.directory, 'replica.keys'), '--id', '2'],
      ...['--data', join(cluster.directory, 'wiped-again'), '--listen', `127.0.0.1:${(await freePorts(1))[0]}`],
    ]);
    t.match(ended, { code: 1, stderr: /"code":"replica-removed","error":"host 2 is no member/ });
    t.notMatch(ended.stderr, '"status":"normal"');
  });
});

/** The commands of a section of docs/operate/recovery.md, in its order. */
function commandsOf(section: string): string[] {
  const page = readFileSync(new URL('../../../docs/operate/recovery.md', import.meta.url), 'utf8');
  const text = page.split(/^## /m).find((part) => part.startsWith(`${section}\n`));
  if (text === undefined) throw new Error(`docs/operate/recovery.md has no section "${section}"`);
  return [...text.matchAll(/```\n([^]*?)```/g)].flatMap(([, block]) =>
    block!.split('\n').flatMap((line) => (line.trim() === '' ? [] : [line.trim()])),
  );
}

/**
 * Begins a new cluster with a backup, word for word as the page says, on three hosts that have nothing but the backup
 * and the old key file. Looks whether it has what was acknowledged, and members of its own.
 */
async function beginsAnew(t: Test, cluster: LocalCluster, name: string, backup: string, writes: Writes): Promise<void> {
  const hosts = [0, 1, 2].map((id) => join(cluster.directory, name, `host-${id}`));
  const [first] = hosts as [string];
  mkdirSync(first, { recursive: true });
  cpSync(backup, join(first, 'rest.jpb'));
  cpSync(join(cluster.directory, 'replica.keys'), join(first, 'replica.keys'));
  const addresses = (await freePorts(3)).map((port) => `127.0.0.1:${port}`);
  const commands = commandsOf('Begin a new cluster');
  const onHost = (command: string, id: number): string[] => {
    const text = command
      .replace('10.0.0.1:7400,10.0.0.4:7400,10.0.0.5:7400', addresses.join())
      .replace('--id 0', `--id ${id}`)
      .replace('/var/lib/jitpaxos-new', join(hosts[id]!, 'data'));
    return text.split(' ').slice(2);
  };
  t.same(
    commands.map((command) => /^(mkdir|npx jitpaxos [a-z]+) /.exec(command)?.[1]),
    ['mkdir', ...['init', 'restore', 'replica', 'status'].map((verb) => `npx jitpaxos ${verb}`)],
  );
  const [make, init, restore, start, look] = commands as [string, string, string, string, string];
  const early = await run(onHost(init, 0), [], first);
  t.match(early, { code: 1, stderr: /^output-unwritable: .*there is no directory new; make it/ });
  mkdirSync(join(first, make.split(' ')[1]!));
  const written = await run(onHost(init, 0), [], first);
  t.equal(written.code, 0, written.stderr);
  t.match(written.stderr, /^before any replica starts, make the data directory of each: jitpaxos restore rest\.jpb /m);
  for (const host of hosts.slice(1)) cpSync(first, host, { recursive: true });
  const hasty = await run(onHost(start, 0), [], first);
  t.match(hasty, { code: 2, stderr: /"code":"restore-missing"/ }, 'a replica that is started too early');
  const restored = await Promise.all(hosts.map((host, id) => run(onHost(restore, id), [], host)));
  for (const { code, stderr } of restored) t.equal(code, 0, stderr);
  const replicas = hosts.map(
    (cwd, id) =>
      new ReplicaProcess(
        id,
        fork(MAIN, onHost(start, id), { cwd, stdio: ['ignore', 'pipe', 'pipe', 'ipc'], execArgv: [] }),
      ),
  );
  try {
    await Promise.all(replicas.map((replica) => replica.waitReady()));
    let said: Ended | undefined;
    const serves = async (): Promise<boolean> => {
      said = await run(onHost(look, 0), [], first);
      return said.code === 0 && /available +3 of 3 replicas answer/.test(said.stdout);
    };
    t.ok(await until(serves), `${said?.stdout}${said?.stderr}`);
    const file = join(first, 'new', 'cluster.json');
    await using client = await connect(file);
    const kv = new KvClient(client);
    t.same(await missing(kv, writes), [], `${writes.acknowledged.size} writes`);
    await kv.put('more', 'x');
    for (const replica of replicas) {
      let report: ReplicaStatusReport | undefined;
      t.ok(await until(async () => (report = await statusOf(replica)) !== undefined));
      const { role, epoch, hosts } = report!.membership!;
      t.same(
        { role, epoch, hosts: hosts.map(({ id, address }) => [id, address]) },
        { role: 'voter', epoch: 0, hosts: addresses.map((address, id) => [id, address]) },
        'the members are those of its own file',
      );
    }
  } finally {
    await Promise.all(replicas.map(killed));
  }
}

t.test('a cluster whose members have changed is backed up, and recovered after a majority is lost', async (t) => {
  await using cluster = await LocalCluster.start({
    replicas: 3,
    machine: 'kv',
    transport: 'auto',
    durability: 'os',
    authenticated: true,
    stopTimeoutMs: TIMEOUT_MS,
  });
  const operator = await newKey(cluster, 'operator');
  await using client = await connect(cluster.clusterFile);
  await using writes = new Writes(new KvClient(client));
  await writes.goOn();
  await killed(cluster.replicas[2]!);
  const joining = await cluster.spawnJoining();
  const replaced = await run(memberArgs(cluster, operator, ['replace', '2', joining.address, '--alive']));
  t.equal(replaced.code, 0, replaced.stderr);
  t.equal(await cluster.joins(joining), 3);
  await writes.goOn();
  await writes.stop();
  t.same(writes.failed, []);

  const files = ['--cluster', cluster.clusterFile];
  const rest = join(cluster.directory, 'rest.jpb');
  const recover = (data: string): string[] => ['recover', data, ...files, '--out', rest, '--accept-loss'];
  await killed(cluster.replicas[1]!);
  const refused = await patiently(
    async (timeout) => {
      rmSync(rest, { force: true }); // while too few have answered, nothing speaks against it
      return run([...recover(join(cluster.directory, 'replica-2')), '--timeout', timeout]);
    },
    ({ stderr }) => /^cluster-running: /m.test(stderr),
  );
  t.match(
    refused,
    { code: 1, stdout: '', stderr: /^cluster-running: replicas 0, 3 answer, which is a majority of 3/m },
    'neither this directory nor the cluster file knows that host 3 is a voter: the hosts say so',
  );

  // It has everything, and is stopped cleanly: then its disk knows that all of it is committed.
  const running = [0, 3].map((id) => cluster.replicas[id]!);
  const hasAll = async (): Promise<boolean> => {
    const reports = await Promise.all(running.map(statusOf));
    const last = Math.max(...reports.map((report) => report?.lastIndex ?? Infinity));
    return reports.every(
      (report) => report?.status === 'normal' && report.view === reports[0]!.view && report.committedIndex === last,
    );
  };
  t.ok(await until(hasAll));
  await cluster.replicas[3]!.stop();
  const backup = join(cluster.directory, 'backup.jpb');
  t.match(await run(['backup', joining.data, ...files, '--out', backup]), { code: 0, stdout: /, sealed / });
  await beginsAnew(t, cluster, 'from-backup', backup, writes);

  await Promise.all(running.map(killed));
  const recovered = await run([...recover(joining.data), '--timeout', '300ms', '--json']);
  t.equal(recovered.code, 0, recovered.stderr);
  t.match(JSON.parse(recovered.stdout), { replica: 3, sealed: true, survivors: [{ replica: 3, doubts: [] }] });
  await beginsAnew(t, cluster, 'recovered', rest, writes);
});

t.test('over IPv6: hosts are added, and processes that cannot be are refused with the reason', async (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'jitpaxos-members-'));
  t.teardown(() => rmSync(directory, { recursive: true, force: true }));
  const config: ClusterConfig = { ...(await clusterConfig(3, ['::1'])), features: ['session-quotas', 'membership'] };
  const fileOf = (name: string, content: ClusterConfig): string => {
    const path = join(directory, name);
    writeFileSync(path, JSON.stringify(content));
    return path;
  };
  const file = fileOf('cluster.json', config);
  const replicas = await Promise.all(
    [0, 1, 2].map((id) =>
      Replica.start({
        cluster: file,
        id,
        machine: new KvMachine(),
        data: join(directory, `data-${id}`),
        durability: 'os',
        logger: silentLogger,
      }),
    ),
  );
  t.teardown(() => Promise.all(replicas.map((replica) => replica.close())));
  await using client = await connect(file);
  const kv = new KvClient(client);
  await kv.put('before', '1');

  let joiners = 0;
  /** Starts a process that waits to be added, with this cluster file. Returns its address. */
  const waits = async (cluster: string): Promise<string> => {
    const address = `[::1]:${(await freePorts(1, '::1'))[0]}`;
    const data = join(directory, `joined-${joiners++}`);
    const child = spawn(
      process.execPath,
      [MAIN, 'replica', '--join', cluster, '--listen', address, '--data', data, '--durability', 'os'],
      { stdio: ['ignore', 'pipe', 'ignore'] },
    );
    t.teardown(async () => {
      if (child.exitCode !== null || child.signalCode !== null) return;
      const gone = new Promise((resolve) => child.once('exit', resolve));
      child.kill('SIGKILL');
      await gone;
    });
    let said = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => (said += text));
    if (!(await until(() => said.includes(`member add ${address}\n`) || child.exitCode !== null)))
      throw new Error(`it does not wait at ${address}: ${said}`);
    return address;
  };
  const [one, two, limited, strange] = await Promise.all([
    waits(file),
    waits(file),
    waits(fileOf('limited.json', { ...config, limits: { ...config.limits, operationBytes: 1_000 } })),
    waits(fileOf('strange.json', { ...config, id: '00c0ffee87654321' })),
  ]);
  const add = (silence: string, ...addresses: string[]): Promise<Ended> =>
    run(['member', 'add', ...addresses, '--cluster', file, '--silence', silence, '--json']);
  const [twice, single, other, unlike] = await Promise.all([
    add('60s', one, one),
    add('60s', one),
    patiently(
      (silence) => add(silence, one, strange),
      ({ stderr }) => /^member-unreachable: /m.test(stderr),
    ),
    add('60s', one, limited),
  ]);
  t.match(twice, { code: 2, stdout: '', stderr: /^argument-invalid: .* is given twice/m });
  t.match(single, { code: 1, stdout: '', stderr: /^members-count: 4 voters survive no more failures than 3/m });
  t.match(other, { code: 1, stdout: '', stderr: /^member-unreachable: .*compare the "id" of its cluster file/m });
  t.match(unlike, { code: 1, stdout: '', stderr: /^member-unfit: .*other limits: operationBytes 1000 instead of/m });
  for (const { stderr } of [twice, single, other, unlike]) t.notMatch(stderr, 'is listed', 'nothing was done');

  const added = await add('60s', one, two);
  t.equal(added.code, 0, added.stderr);
  t.same(votersIn(added), [0, 1, 2, 3, 4]);
  t.same(
    (JSON.parse(added.stdout) as { hosts: { address: string }[] }).hosts.map(({ address }) => address),
    [...config.replicas, one, two],
  );
  await kv.put('after', '2');
  t.equal(Buffer.from((await kv.get('before'))!).toString(), '1');
});
