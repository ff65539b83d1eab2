/**
 * Forged source addresses, truly: attacker, victim and replicas are in three network namespaces, and the attacker writes
 * from the victim's address. Whatever it asks, under a client's key or without keys, the victim gets at most three times
 * the bytes that were sent in its name.
 *
 * Where namespaces are not to be had, the test says so and is skipped.
 */
import { randomBytes } from 'node:crypto';
import { execFileSync, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import t, { type Test } from 'tap';
import type { ClusterConfig } from '../../src/host/cluster-config.js';
import type { KeyFile } from '../../src/host/key-file.js';
import { native } from '../../src/native/addon.js';
import { AMPLIFICATION } from '../../src/wire/address-proofs.js';
import type { Known } from './forged-address-program.js';

const PROGRAM = fileURLToPath(new URL('forged-address-program.js', import.meta.url));
const ROUNDS = 30;
const TIMEOUT_MS = 300_000;
t.setTimeout(2 * TIMEOUT_MS);

const REPLICAS = '10.78.1.1';
const VICTIM = { host: '10.78.2.2', port: 7_999 };
const names = ['r', 'a', 'v'].map((name) => `jitpaxos-${name}-${process.pid}`) as [string, string, string];
const env = { ...process.env, PATH: `${process.env['PATH'] ?? ''}:/usr/sbin:/sbin` };
const ip = (...args: string[]): void => void execFileSync('ip', args, { env, timeout: 60_000, stdio: 'pipe' });

/** Three namespaces: the replicas', with a cable to the attacker's and one to the victim's. Returns why there are none. */
function namespaces(t: Test): string | false {
  const [r, a, v] = names;
  try {
    for (const name of names) {
      ip('netns', 'add', name);
      t.teardown(() => ip('netns', 'del', name));
      ip('-n', name, 'link', 'set', 'lo', 'up');
    }
    for (const [other, net] of [
      [a, 1],
      [v, 2],
    ] as const) {
      ip('-n', r, 'link', 'add', `to-${net}`, 'type', 'veth', 'peer', 'name', 'cable', 'netns', other);
      ip('-n', r, 'addr', 'add', `10.78.${net}.1/24`, 'dev', `to-${net}`);
      ip('-n', r, 'link', 'set', `to-${net}`, 'up');
      ip('-n', other, 'addr', 'add', net === 1 ? '10.78.1.2/24' : `${VICTIM.host}/24`, 'dev', 'cable');
      ip('-n', other, 'link', 'set', 'cable', 'up');
    }
    ip('-n', a, 'addr', 'add', `${VICTIM.host}/32`, 'dev', 'lo');
    ip('-n', v, 'route', 'add', 'default', 'via', '10.78.2.1');
    // The replicas' host takes datagrams from where their sender is not: as a network without source validation does.
    for (const of of ['all', 'to-1'])
      ip('netns', 'exec', r, 'sh', '-c', `echo 0 > /proc/sys/net/ipv4/conf/${of}/rp_filter`);
    return false;
  } catch (error) {
    return `no network namespaces here (as root, with iproute2): ${(error as Error).message.trim().split('\n').at(-1)!}`;
  }
}

interface Answer {
  readonly view: number;
  readonly withheld: number;
  /** By port of the victim. */
  readonly sent: readonly number[];
  readonly bytes: readonly number[];
}

interface Process {
  /** Its answer to a line. */
  ask(line?: string): Promise<Answer>;
}

async function start(t: Test, namespace: string, role: string, known: Known): Promise<Process> {
  const child = spawn('ip', ['netns', 'exec', namespace, process.execPath, PROGRAM, role, JSON.stringify(known)], {
    env,
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  const gone = new Promise<void>((resolve) => child.once('exit', () => resolve()));
  t.teardown(async () => {
    child.kill('SIGKILL');
    await gone;
  });
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const next = async (): Promise<Answer> => {
    const { done, value } = await lines.next();
    if (done === true) throw new Error(`${role} has ended`);
    return JSON.parse(value) as Answer;
  };
  await next();
  return { ask: (line = '') => (child.stdin.write(`${line}\n`), next()) };
}

function keyFiles(cluster: string): Pick<Known, 'replicaKeys' | 'clientKeys'> {
  const key = (id: number, role: 'replica' | 'client') => ({ id, role, secret: randomBytes(32).toString('hex') });
  const [replica, client] = [key(1, 'replica'), key(22, 'client')];
  const file = (use: number, keys: KeyFile['keys']): KeyFile => ({ schema: 'jitpaxos.keys/1', cluster, use, keys });
  return { replicaKeys: file(1, [replica, client]), clientKeys: file(22, [client]) };
}

t.test('a victim gets at most three times the bytes that are sent in its name', async (t) => {
  const missing = namespaces(t);
  if (missing !== false) return void t.comment(missing);
  for (const transport of ['native', 'dgram'] as const)
    for (const authenticated of [true, false]) {
      const what = `${transport}, ${authenticated ? "under a client's key" : 'without keys'}`;
      const skip = transport === 'native' && !native.available ? native.reason : false;
      await t.test(what, { skip }, async (t) => {
        const id = '00c0ffee12345678';
        const cluster: ClusterConfig = {
          schema: 'jitpaxos.cluster/1',
          id,
          replicas: [7_401, 7_402, 7_403].map((port) => `${REPLICAS}:${port}`),
          limits: { logEntries: 1 << 14, logBytes: 16 << 20 },
          features: ['session-quotas', 'membership'],
          ...(authenticated ? { authentication: 'keys', encryption: 'required' } : {}),
        };
        const known: Known = { cluster, transport, victim: VICTIM, ...(authenticated ? keyFiles(id) : {}) };
        const [replicas, attacker, victim] = await Promise.all([
          start(t, names[0], 'replicas', known),
          start(t, names[1], 'attacker', known),
          start(t, names[2], 'victim', known),
        ]);
        const before = (await replicas.ask()).withheld;
        let most = 0;
        const deadline = performance.now() + TIMEOUT_MS;
        for (let round = 1; ; round++) {
          const { view, withheld } = await replicas.ask();
          const { sent } = await attacker.ask(String(view));
          await sleep(20);
          // What is counted as sent was sent before: a late answer can only be missing here.
          const { bytes } = await victim.ask();
          most = Math.max(most, ...bytes.map((got, kind) => (got === 0 ? 0 : got / sent[kind]!)));
          if (most > AMPLIFICATION) break;
          if (round >= ROUNDS && most > 0 && withheld > before) break;
          if (performance.now() > deadline) {
            t.fail(`the victim got ${bytes.join(' ')} bytes, and ${withheld - before} answers were withheld`);
            break;
          }
        }
        t.ok(most <= AMPLIFICATION, `at most ${most.toFixed(2)} times the bytes, of any question`);
      });
    }
});
