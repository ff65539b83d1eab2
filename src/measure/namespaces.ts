/**
 * Network namespaces joined by veth pairs, for tests and benches that need hosts with cables between them.
 *
 * The rule: nothing of them outlives the process that wanted them, however it ends. A program runs itself again under
 * unshare(1), as the first process of a PID namespace with a mount namespace and a /run of its own. All that it makes
 * is visible only there, and ends with it; it ends with its standard input, which the first program holds.
 *
 * It needs Linux, unshare (util-linux) and ip (iproute2), and either root or a kernel that lets anyone have namespaces.
 */
import { execFileSync, spawn, spawnSync, type ChildProcess, type SpawnOptions } from 'node:child_process';
import { platform } from 'node:os';

/** Longer than any call of ip(8) takes on a busy host. */
const COMMAND_LIMIT_MS = 60_000;
const FLAGS = ['-n', '-m', '-p', '--fork', '--kill-child', '--mount-proc'];
/** With `-r`: as the root of a user namespace. */
const WAYS = [FLAGS, ['-r', ...FLAGS]];
/** What the namespaces will be asked for. */
const PROBE =
  'mount -t tmpfs tmpfs /run && ip netns add a && ip netns add b && ip -n a link add v type veth peer name v netns b && ip netns exec a true';
/** Environment of the program's second run. */
const INSIDE = 'JITPAXOS_INSIDE_NAMESPACES';

const env: NodeJS.ProcessEnv = { ...process.env, PATH: `${process.env['PATH'] ?? ''}:/usr/sbin:/sbin` };

/** Whether this process was started by `runInside`. */
export function isInside(): boolean {
  return process.env[INSIDE] !== undefined && process.pid === 1;
}

/** Why this host allows no namespaces, if it does not. */
export function withoutNamespaces(): string | false {
  return waysIn().reason;
}

function waysIn(): { readonly flags: readonly string[]; readonly reason: string | false } {
  let reason = 'network namespaces are a thing of Linux';
  if (platform() === 'linux')
    for (const flags of WAYS) {
      const { status, stderr, error } = spawnSync('unshare', [...flags, 'sh', '-c', PROBE], {
        env,
        encoding: 'utf8',
        timeout: COMMAND_LIMIT_MS,
      });
      if (status === 0) return { flags, reason: false };
      const said = error?.message ?? stderr.trim().split('\n').at(-1) ?? '';
      reason = `no network namespaces here (unshare of util-linux, ip of iproute2, and root or user namespaces): ${said}`;
    }
  return { flags: [], reason };
}

/**
 * Runs this program again inside, with its arguments and its output. Resolves to its exit code.
 *
 * Throws Error if `withoutNamespaces` says why not.
 */
export async function runInside(): Promise<number> {
  const { flags, reason } = waysIn();
  if (reason !== false) throw new Error(reason);
  const child = spawn('unshare', [...flags, process.execPath, ...process.execArgv, ...process.argv.slice(1)], {
    stdio: ['pipe', 'inherit', 'inherit'],
    env: { ...env, [INSIDE]: '1' },
  });
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('exit', (code) => resolve(code ?? 1));
  });
}

/** Prepares the second run: a /run of its own, and an end together with the first. */
export function settleInside(): void {
  process.stdin.once('end', () => process.exit(1)).once('error', () => process.exit(1));
  process.stdin.resume();
  process.stdin.unref();
  execute('mount', ['-t', 'tmpfs', 'tmpfs', '/run']);
}

function execute(file: string, args: readonly string[], input = ''): string {
  return execFileSync(file, args, { env, input, encoding: 'utf8', timeout: COMMAND_LIMIT_MS, stdio: 'pipe' });
}

/** One end of a cable. */
export interface CableEnd {
  readonly in: Namespace;
  /** Name of the interface, at most 15 characters. */
  readonly name: string;
  /** With their prefix lengths. */
  readonly addresses: readonly string[];
}

export class Namespace {
  /** Makes one. */
  constructor(
    readonly name: string,
    isNew = true,
  ) {
    if (isNew) execute('ip', ['netns', 'add', name]);
    this.ip('link set lo up');
  }

  /** The one in which this process is, inside. */
  static own(name = 'own'): Namespace {
    execute('ip', ['netns', 'attach', name, String(process.pid)]);
    return new Namespace(name, false);
  }

  /** Runs `ip` there, once for each line. */
  ip(...lines: readonly string[]): void {
    execute('ip', ['-n', this.name, '-batch', '-'], lines.map((line) => `${line}\n`).join(''));
  }

  /** The same for objects that each family has for itself: runs `ip -6`. */
  ip6(...lines: readonly string[]): void {
    execute('ip', ['-6', '-n', this.name, '-batch', '-'], lines.map((line) => `${line}\n`).join(''));
  }

  /** Runs a command there, and returns what it printed. */
  run(...command: readonly string[]): string {
    return execute('ip', ['netns', 'exec', this.name, ...command]);
  }

  /** Starts a command there. The child is the command itself: signals reach it. */
  spawn(command: readonly string[], options: SpawnOptions = {}): ChildProcess {
    const [file, ...args] = this.prefixed(...command);
    return spawn(file, args, { ...options, env: { ...env, ...options.env } });
  }

  /** The command that runs this command there: it becomes it, so that signals and channels reach it. */
  prefixed(...command: readonly string[]): [file: string, ...args: string[]] {
    return ['ip', 'netns', 'exec', this.name, ...command];
  }

  /** Writes settings of the kernel's network: by path below /proc/sys/net. */
  set(settings: Readonly<Record<string, number>>): void {
    const lines = Object.entries(settings).map(([path, value]) => `echo ${value} > /proc/sys/net/${path}`);
    this.run('sh', '-e', '-c', lines.join('\n'));
  }

  /** IP fragments that were made there since the beginning: by senders and routers, of both families. */
  fragmentsMade(): number {
    return this.count(/^Ip:(?<names>.*)\nIp:(?<values>.*)$/m, 'FragCreates') + this.countIpv6('Ip6FragCreates');
  }

  private count(table: RegExp, name: string): number {
    const { names, values } = table.exec(this.run('cat', '/proc/net/snmp'))!.groups as Record<string, string>;
    return Number(values!.split(' ')[names!.split(' ').indexOf(name)]);
  }

  private countIpv6(name: string): number {
    return Number(new RegExp(`^${name}\\s+(\\d+)$`, 'm').exec(this.run('cat', '/proc/net/snmp6'))?.[1] ?? 0);
  }
}

/** Lays a cable between two namespaces. Both ends are up, and the kernel cuts runs of datagrams before it. */
export function connect(a: CableEnd, b: CableEnd, mtu: number): void {
  // A run of datagrams that leaves as one packet (UDP_SEGMENT) would pass every switch, whatever its length.
  a.in.ip(`link add ${a.name} mtu ${mtu} type veth peer name ${b.name} mtu ${mtu} netns ${b.in.name}`);
  for (const end of [a, b])
    end.in.ip(
      `link set ${end.name} gso_max_segs 1`,
      ...end.addresses.map((address) => `addr add ${address} dev ${end.name}${address.includes(':') ? ' nodad' : ''}`),
      `link set ${end.name} up`,
    );
}
