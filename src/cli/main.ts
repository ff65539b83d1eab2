#!/usr/bin/env node
/**
 * The `jitpaxos` command: finds the subcommand, parses its flags, runs it, and turns any error into one line on stderr
 * and an exit code. A subcommand's file is loaded only when needed.
 */
import '../host/inspector-signal.js';
import { readFileSync } from 'node:fs';
import { nearest } from '../host/options.js';
import { outputFor, type Command } from '../console/command.js';
import { CliError, Exit, exitCodeOf, lineOf } from '../console/exit.js';
import { helpOf, parseFlags } from '../console/flags.js';
import { openSettings, variableOf } from '../console/settings.js';
import { formatFor, formatLine, type LogFormat } from '../host/logger.js';
import { isOldNode, NODE_MIN, version } from '../host/version.js';

type Commands = Readonly<Record<string, readonly [summary: string, load: () => Promise<Command>]>>;

/** Name → what it does, and where it is. */
const COMMANDS: Commands = {
  init: ['write a cluster file', async () => (await import('./init.js')).init],
  replica: ['run one replica', async () => (await import('./replica.js')).replica],
  'kv get': ['read a key', async () => (await import('./kv.js')).get],
  'kv put': ['set a key', async () => (await import('./kv.js')).put],
  'kv cas': ['set a key if it has an expected value', async () => (await import('./kv.js')).cas],
  'kv del': ['remove a key', async () => (await import('./kv.js')).del],
  'kv incr': ['add to the number in a key', async () => (await import('./kv.js')).incr],
  'kv txn': ['execute several operations as one', async () => (await import('./kv.js')).txn],
  'kv scan': ['list a range of keys', async () => (await import('./kv.js')).scan],
  'kv watch': ['show changes of keys as they happen', async () => (await import('./kv.js')).watch],
  lock: ['run a command while a lock is held', async () => (await import('./lock.js')).lock],
  'lease list': ['list the leases that hold keys', async () => (await import('./lease.js')).list],
  'lease show': ['show a lease and its keys', async () => (await import('./lease.js')).show],
  'lease revoke': ['end a lease, and with it its keys', async () => (await import('./lease.js')).revoke],
  redis: ['serve Redis clients from the cluster', async () => (await import('./redis.js')).redis],
  'redis-user': [
    'add, change or remove a user of the Redis front end',
    async () => (await import('./redis-user.js')).redisUser,
  ],
  'keys add': ['add a key for a client, or for the replicas', async () => (await import('./keys.js')).add],
  'keys use': ['make the replicas use another key', async () => (await import('./keys.js')).use],
  'keys list': ['show the keys of a file, without their secrets', async () => (await import('./keys.js')).list],
  'keys remove': ['remove a key', async () => (await import('./keys.js')).remove],
  'features list': [
    'show which features each replica knows, and which are on',
    async () => (await import('./features.js')).list,
  ],
  'features enable': [
    'switch a feature on, when all replicas know it',
    async () => (await import('./features.js')).enable,
  ],
  'config explain': [
    'show the configuration of a replica, and where each value comes from',
    async () => (await import('./config.js')).explain,
  ],
  backup: [
    'write the committed state of a data directory to one file',
    async () => (await import('./backup.js')).backup,
  ],
  restore: [
    'make a data directory for a replica of a new cluster from a backup',
    async () => (await import('./backup.js')).restore,
  ],
  recover: [
    'after a majority is lost for good: write what is left to a backup for a new cluster',
    async () => (await import('./recover.js')).recover,
  ],
  inspect: [
    'show what is in a data directory, or in a captured datagram',
    async () => (await import('./inspect.js')).inspect,
  ],
  status: ['show the cluster now', async () => (await import('./cluster/status.js')).status],
  'member list': [
    'show who the members of the cluster are, according to each replica',
    async () => (await import('./members/list.js')).list,
  ],
  'member add': [
    'add hosts that wait to be added (replica --join)',
    async () => (await import('./members/commands.js')).add,
  ],
  'member promote': ['make voters of learners', async () => (await import('./members/commands.js')).promote],
  'member replace': [
    'put a new host in the place of one that is lost',
    async () => (await import('./members/commands.js')).replace,
  ],
  'member remove': ['remove hosts', async () => (await import('./members/commands.js')).remove],
  'member move': [
    'list a host at another address, where its data directory is now',
    async () => (await import('./members/commands.js')).move,
  ],
  doctor: ['check this host, and the cluster as seen from it', async () => (await import('./doctor/doctor.js')).doctor],
  top: ['show the cluster live', async () => (await import('./cluster/top.js')).top],
  'clock list': [
    'list the clocks of this host, and which one is used and why',
    async () => (await import('./clock/list.js')).clockList,
  ],
  'clock read': [
    'read all clocks side by side, with the cost of a reading',
    async () => (await import('./clock/read.js')).clockRead,
  ],
  'clock compare': [
    'measure offset and rate of two clocks over some seconds',
    async () => (await import('./clock/compare.js')).clockCompare,
  ],
  'clock watch': [
    'watch one clock against another, one line a second',
    async () => (await import('./clock/watch.js')).clockWatch,
  ],
  'bench latency': [
    'measure latency with a closed loop',
    async () => (await import('./bench/latency.js')).benchLatency,
  ],
  'bench compare': [
    'compare a cluster with baselines of the same shape',
    async () => (await import('./bench/compare.js')).benchCompare,
  ],
  'bench load': [
    'measure at a fixed rate with an open loop, or find the highest sustained rate',
    async () => (await import('./bench/load.js')).benchLoad,
  ],
  'bench agent': [
    'wait for a coordinator (bench load --agents), and load the cluster for it',
    async () => (await import('./bench/agent.js')).benchAgent,
  ],
  'bench report': [
    'show one result of a bench, or compare several',
    async () => (await import('./bench/report.js')).benchReport,
  ],
  'bench merge': [
    'add up the results of several benches, such as those of several hosts',
    async () => (await import('./bench/merge.js')).benchMerge,
  ],
  sim: ['run the protocol in a simulator that tries to break it', async () => (await import('./sim.js')).sim],
  demo: [
    'run three replicas on this host, a workload and a failure; write a report',
    async () => (await import('./demo/demo.js')).demo,
  ],
};

/** How long something that a failed command left behind may keep the process alive. */
const LEFT_BEHIND_MS = 2_000;

async function main(args: readonly string[]): Promise<number> {
  if (isOldNode(process.versions.node))
    throw new CliError(
      'node-too-old',
      `this is Node ${process.versions.node}, and jitpaxos needs ${NODE_MIN} or later; install it (nodejs.org), and make sure that it is the first \`node\` in PATH`,
    );
  checkEncoding(args);
  if (args[0] === '--version' || args[0] === 'version') {
    process.stdout.write(`${version()}\n`);
    return Exit.done;
  }
  if (args[0] === '--help' || args[0] === '-h' || args[0] === 'help' || args.length === 0) {
    process.stdout.write(overview(''));
    return args.length === 0 ? Exit.usage : Exit.done;
  }
  const group = Object.keys(COMMANDS).filter((name) => name.startsWith(`${args[0]} `));
  if (group.length > 0 && (args.length === 1 || args[1] === '--help' || args[1] === '-h')) {
    process.stdout.write(overview(`${args[0]} `));
    return args.length === 1 ? Exit.usage : Exit.done;
  }
  const words = group.length > 0 ? 2 : 1;
  const name = args.slice(0, words).join(' ');
  if (!Object.hasOwn(COMMANDS, name)) {
    const known = Object.keys(COMMANDS);
    const meant = nearest(name, known) ?? nearest(args.slice(0, 2).join(' '), known);
    throw new CliError(
      'unknown-command',
      `"${name}" is not a command; ${meant === undefined ? '' : `did you mean "${meant}"? `}see jitpaxos --help`,
    );
  }
  const command = await COMMANDS[name]![1]();
  isService = command.shape.service === true;
  const isLogged = isService && LOG_FORMAT in command.shape.flags;
  if (isLogged) logFormat = formatFor(formatIn(args) ?? process.env[variableOf(LOG_FORMAT)], process.stderr);
  const parsed = parseFlags(command.shape, args.slice(words), (file) => openSettings(command.shape, file, process.env));
  if (isLogged) logFormat = formatFor(String(parsed.values[LOG_FORMAT]), process.stderr);
  if (parsed.values['help'] === true) {
    process.stdout.write(helpOf(command.shape));
    return Exit.done;
  }
  return command.run(parsed, outputFor(parsed.values));
}

/**
 * Node turns bytes that are not UTF-8 into U+FFFD, so two different keys, or files, would become one. If the system
 * shows the original arguments, an intended U+FFFD can be told from such damage.
 */
function checkEncoding(args: readonly string[]): void {
  const damaged = args.find((arg) => arg.includes('\ufffd'));
  if (damaged === undefined) return;
  try {
    new TextDecoder('utf-8', { fatal: true }).decode(readFileSync('/proc/self/cmdline'));
  } catch {
    throw new CliError(
      'argument-invalid',
      `"${damaged}" has bytes that are not UTF-8; give text, or use the library, which takes bytes`,
    );
  }
}

function overview(prefix: string): string {
  const rows = Object.entries(COMMANDS).filter(([name]) => name.startsWith(prefix));
  const width = Math.max(...rows.map(([name]) => name.length));
  return [
    `jitpaxos ${prefix}COMMAND [flags]`,
    '',
    'Commands:',
    ...rows.map(([name, [summary]]) => `  ${name.padEnd(width)}  ${summary}`),
    '',
    'Every command has --help. Exit codes: 0 done, 1 failed, 2 usage, 3 cluster unavailable, 4 an --assert did not hold or no replica answered status, 141 the reader of stdout ended.',
    '',
  ].join('\n');
}

const LOG_FORMAT = 'log-format';
/** For a service that has a log, once known: the reason why it does not start, or stops, is then a log line. */
let logFormat: LogFormat | undefined;

/** The format according to the command line, even if the rest of that is wrong. */
function formatIn(args: readonly string[]): string | undefined {
  const at = args.findIndex((arg) => arg === `--${LOG_FORMAT}` || arg.startsWith(`--${LOG_FORMAT}=`));
  return at < 0 ? undefined : args[at] === `--${LOG_FORMAT}` ? args[at + 1] : args[at]!.slice(LOG_FORMAT.length + 3);
}

function logLineOf(error: unknown): string {
  const line = lineOf(error);
  const at = line.indexOf(': ');
  return formatLine('json', Date.now(), 'error', 'replica.ended', {
    code: line.slice(0, at),
    error: line.slice(at + 2),
    exitCode: exitCodeOf(error),
  });
}

/**
 * A service's output only informs. A tool whose result cannot be written has failed, and says so on stderr if that
 * still works.
 */
let isService = false;
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (isService) return;
  if (error.code === 'EPIPE') process.exit(Exit.readerGone); // `jitpaxos … | head` has what it wanted: end quietly
  process.stderr.write(
    `output-unwritable: stdout cannot be written (${error.code ?? error.message}); check space and permissions, then run it again\n`,
  );
  process.exit(Exit.failed);
});
// Progress and remarks that nobody reads are no reason to end.
process.stderr.on('error', () => undefined);

main(process.argv.slice(2)).then(
  (code) => {
    process.exitCode = code;
  },
  (error: unknown) => {
    process.stderr.write(`${logFormat === 'json' ? logLineOf(error) : lineOf(error)}\n`);
    process.exitCode = exitCodeOf(error);
    // A command that failed half-way need not wait: things that it started but did not stop would keep it alive
    // forever.
    setTimeout(() => process.exit(), LEFT_BEHIND_MS).unref();
  },
);
