/**
 * `jitpaxos member add|promote|replace|remove|move`: an operator's changes of the members. What is done and refused is in
 * plan.ts; here is what is asked for, and what is printed.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { defineCommand, type Output } from '../../console/command.js';
import { CliError, Exit } from '../../console/exit.js';
import type { Flags } from '../../console/flags.js';
import { CLUSTER_FLAG, KEY_FILE_FLAG, keysOf } from '../../console/settings.js';
import { parseCount } from '../../console/units.js';
import { warnWithoutKeys } from '../../console/without-keys.js';
import { silentLogger } from '../../host/logger.js';
import { addressText } from '../../host/cluster-config.js';
import { placeIn } from './place.js';
import type { MemberRequest } from './plan.js';
import { Progress } from './progress.js';
import { Reach } from './reach.js';
import { runChange } from './run.js';

/** How long one answer is waited for, and one decision. */
const ANSWER_MS = 500;
const DECISION_MS = 10_000;

const FLAGS = {
  cluster: CLUSTER_FLAG,
  'key-file': {
    ...KEY_FILE_FLAG,
    alias: 'keys',
    help: "an operator's key file, in a cluster with keys (jitpaxos keys add --role operator)",
  },
  'replica-keys': {
    kind: 'text',
    value: 'FILE',
    standard: 'replica.keys beside the cluster file',
    help: "the replicas' key file, for the secret of the chain; only the first change of the members needs it",
  },
  timeout: {
    kind: 'duration',
    default: '10m',
    min: 1e9,
    max: 24 * 3600e9,
    help: 'how long the change may take; after that the exit code is 3, and the same command goes on',
  },
  silence: {
    kind: 'duration',
    default: '5s',
    min: 1e8,
    max: 3600e9,
    help: 'a host that is silent for this long counts as down',
  },
} as const satisfies Flags;

const EVEN = {
  kind: 'switch',
  help: 'allow an even number of voters, which survives no more failures than one less',
} as const;
const FORCE = {
  kind: 'switch',
  help: 'allow a set of voters in which those that vote now and serve are no majority',
} as const;

interface Given {
  readonly cluster: string;
  readonly 'key-file': string | undefined;
  readonly 'replica-keys': string | undefined;
  readonly timeout: number;
  readonly silence: number;
}

export const add = defineCommand(
  {
    name: 'member add',
    summary:
      'Adds hosts to the cluster, which wait at these addresses (jitpaxos replica --join). They copy the state first, and then all of them become voters at once.',
    positionals: ['ADDRESS…'],
    flags: {
      ...FLAGS,
      learner: { kind: 'switch', help: 'one host, which copies the state and does not vote' },
      'allow-even': EVEN,
      force: FORCE,
    },
    examples: ['jitpaxos member add 10.0.0.4:7400 10.0.0.5:7400', 'jitpaxos member add --learner 10.0.0.4:7400'],
  },
  async ({ values, positionals }, output) => {
    const addresses = positionals.map((text) => addressText(placeIn(text)));
    refuseTwice(addresses);
    if (!values.learner)
      return carryOut({ kind: 'add', addresses, allowEven: values['allow-even'], force: values.force }, values, output);
    if (addresses.length > 1)
      throw new CliError('argument-invalid', 'one learner is added at a time; run the command once for each');
    return carryOut({ kind: 'add-learner', address: addresses[0]! }, values, output);
  },
);

export const promote = defineCommand(
  {
    name: 'member promote',
    summary: 'Makes voters of learners that have caught up.',
    positionals: ['ID…'],
    flags: { ...FLAGS, 'allow-even': EVEN, force: FORCE },
    examples: ['jitpaxos member promote 3 4'],
  },
  async ({ values, positionals }, output) =>
    carryOut(
      { kind: 'promote', ids: idsOf(positionals), allowEven: values['allow-even'], force: values.force },
      values,
      output,
    ),
);

export const replace = defineCommand(
  {
    name: 'member replace',
    summary:
      'Puts a host that waits at ADDRESS (jitpaxos replica --join) in the place of host ID, which is lost. The new host copies the state first.',
    positionals: ['ID', 'ADDRESS'],
    flags: {
      ...FLAGS,
      alive: { kind: 'switch', help: 'replace the host although it answers and is well' },
      force: FORCE,
    },
    examples: ['jitpaxos member replace 2 10.0.0.4:7400'],
  },
  async ({ values, positionals: [id, address] }, output) =>
    carryOut(
      {
        kind: 'replace',
        id: idOf(id!),
        address: addressText(placeIn(address!)),
        alive: values.alive,
        allowEven: true,
        force: values.force,
      },
      values,
      output,
    ),
);

export const remove = defineCommand(
  {
    name: 'member remove',
    summary: 'Removes hosts from the cluster. When the command has ended, their processes may be stopped.',
    positionals: ['ID…'],
    flags: { ...FLAGS, 'allow-even': EVEN, force: FORCE },
    examples: ['jitpaxos member remove 3 4'],
  },
  async ({ values, positionals }, output) =>
    carryOut(
      { kind: 'remove', ids: idsOf(positionals), allowEven: values['allow-even'], force: values.force },
      values,
      output,
    ),
);

export const move = defineCommand(
  {
    name: 'member move',
    summary:
      'Lists host ID at another ADDRESS. Before that stop the host, move its data directory, and start it there (jitpaxos replica --listen ADDRESS). Its voters stay the same, and nothing is copied.',
    positionals: ['ID', 'ADDRESS'],
    flags: FLAGS,
    examples: ['jitpaxos member move 2 10.0.0.9:7400'],
  },
  async ({ values, positionals: [id, address] }, output) =>
    carryOut({ kind: 'move', id: idOf(id!), address: addressText(placeIn(address!)) }, values, output),
);

async function carryOut(request: MemberRequest, values: Given, output: Output): Promise<number> {
  const progress = new Progress(output);
  const reach = new Reach({
    cluster: values.cluster,
    ...keysOf(values),
    replicaKeys: values['replica-keys'],
    answerMs: ANSWER_MS,
    decisionMs: DECISION_MS,
    logger: silentLogger,
  });
  warnWithoutKeys(output, reach.cluster);
  const nowMs = (): number => performance.now();
  try {
    const { says, list } = await runChange(request, reach, {
      timeoutMs: values.timeout / 1e6,
      patienceMs: values.silence / 1e6,
      nowMs,
      sleep,
      done: (text) => progress.done(text),
      waits: (text, copies) => progress.waits(text, copies, nowMs()),
    });
    progress.clear();
    if (output.json)
      output.line(
        JSON.stringify({
          schema: 'jitpaxos.member/1',
          done: request.kind,
          says,
          epoch: list.started,
          voters: list.hosts.filter(({ votes }) => votes).map(({ id }) => id),
          hosts: list.hosts.map(({ id, address, votes }) => ({ id, address, votes })),
        }),
      );
    else output.line(says);
    return Exit.done;
  } finally {
    progress.clear();
    await reach.close();
  }
}

function idsOf(texts: readonly string[]): number[] {
  return [...new Set(texts.map(idOf))];
}

/** Throws CliError `argument-invalid`. */
function idOf(text: string): number {
  const id = parseCount(text);
  if (id === undefined || id > 0xffff)
    throw new CliError('argument-invalid', `${text} is no host's id; jitpaxos member list shows the ids`);
  return id;
}

function refuseTwice(addresses: readonly string[]): void {
  const twice = addresses.find((address, at) => addresses.indexOf(address) < at);
  if (twice !== undefined)
    throw new CliError('argument-invalid', `${twice} is given twice; each host has its own address`);
}
