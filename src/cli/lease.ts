/** `jitpaxos lease list|show|revoke`: the leases that hold keys, and the end of one. */
import { StoreClient } from '../client/store-client.js';
import { defineCommand, type Command } from '../console/command.js';
import { CliError, Exit } from '../console/exit.js';
import { inLine } from '../host/printable.js';
import { connect, CONNECTION_FLAGS, type Connection } from './connection.js';
import type { Output } from '../console/command.js';

interface HeldKeys {
  readonly lease: number;
  readonly ends: number;
  readonly keys: string[];
}

/** All leases that hold a key, by number, and the agreed time. Reads every key that begins with the prefix. */
async function leasesOf(
  connection: Connection,
  output: Output,
  prefix: string,
): Promise<{ leases: readonly HeldKeys[]; now: number }> {
  await using client = await connect(connection, output);
  const store = new StoreClient(client);
  const leases = new Map<number, HeldKeys>();
  for (let from: Uint8Array | undefined, first = true; first || from !== undefined; first = false) {
    const page = await store.scan({ prefix, limit: 1000, ...(from === undefined ? {} : { from }) });
    for (const { key, lease, ends } of page.entries) {
      if (lease === undefined) continue;
      const held = leases.get(lease) ?? { lease, ends: ends!, keys: [] };
      leases.set(lease, held);
      held.keys.push(inLine(Buffer.from(key).toString()));
    }
    from = page.next;
  }
  return { leases: [...leases.values()].sort((a, b) => a.lease - b.lease), now: client.agreedTime() };
}

function shown({ lease, ends, keys }: HeldKeys, now: number): string {
  return `${lease}\tends in ${((ends - now) / 1000).toFixed(1)} s\t${keys.length} key${keys.length === 1 ? '' : 's'}`;
}

function numberOf(text: string): number {
  const number = Number(text);
  if (Number.isSafeInteger(number) && number >= 1) return number;
  throw new CliError('argument-invalid', `LEASE "${text}" is no number of a lease; see jitpaxos lease list`);
}

export const list: Command = defineCommand(
  {
    name: 'lease list',
    summary:
      'Lists the leases that hold a key, or one that begins with PREFIX: number, end and how many keys, one a line. A lease without a key is not shown. Reads all these keys. Needs the feature store.',
    positionals: ['[PREFIX]'],
    flags: CONNECTION_FLAGS,
    examples: ['jitpaxos lease list', 'jitpaxos lease list nodes/'],
  },
  async ({ values, positionals: [prefix = ''] }, output) => {
    const { leases, now } = await leasesOf(values, output, prefix);
    if (output.json) output.line(JSON.stringify({ schema: 'jitpaxos.leases/1', leases }));
    else for (const lease of leases) output.line(shown(lease, now));
    return Exit.done;
  },
);

export const show: Command = defineCommand(
  {
    name: 'lease show',
    summary: 'Shows a lease and the keys that it holds. Exit code 1 if it holds none. Needs the feature store.',
    positionals: ['LEASE'],
    flags: CONNECTION_FLAGS,
    examples: ['jitpaxos lease show 4711'],
  },
  async ({ values, positionals: [text] }, output) => {
    const number = numberOf(text!);
    const { leases, now } = await leasesOf(values, output, '');
    const found = leases.find(({ lease }) => lease === number);
    if (output.json)
      output.line(JSON.stringify({ schema: 'jitpaxos.leases/1', leases: found === undefined ? [] : [found] }));
    else if (found !== undefined) for (const line of [shown(found, now), ...found.keys]) output.line(line);
    if (found === undefined) throw notFound(number);
    return Exit.done;
  },
);

export const revoke: Command = defineCommand(
  {
    name: 'lease revoke',
    summary:
      'Ends a lease and removes its keys. A lock that it holds passes on at once; its holder learns of it with its next renewal. Exit code 1 if it has ended already. Needs the feature store.',
    positionals: ['LEASE'],
    flags: CONNECTION_FLAGS,
    examples: ['jitpaxos lease revoke 4711'],
  },
  async ({ values, positionals: [text] }, output) => {
    const number = numberOf(text!);
    await using client = await connect(values, output);
    const revoked = await new StoreClient(client).revoke({ number });
    if (output.json) output.line(JSON.stringify({ schema: 'jitpaxos.leases/1', lease: number, revoked }));
    if (!revoked) throw notFound(number);
    return Exit.done;
  },
);

function notFound(number: number): CliError {
  return new CliError('key-not-found', `lease ${number} has ended, or holds no key; see jitpaxos lease list`);
}
