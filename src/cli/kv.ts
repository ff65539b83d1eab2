/**
 * `jitpaxos kv get|put|cas|del|incr|scan|watch|txn`: the key-value store from the shell. Only values go to stdout. Exit code 1
 * means that the key does not exist, or that a compare-and-set or a transaction found something else.
 */
import { KvClient, type ScanResult } from '../client/kv-client.js';
import { StoreClient } from '../client/store-client.js';
import type { StoreOperationResult, StoreTransaction, StoreValue } from '../client/store-types.js';
import { JitPaxosError } from '../errors.js';
import { isObject } from '../host/options.js';
import { inLine } from '../host/printable.js';
import { KV_SCAN_LIMIT_MAX } from '../machine/kv-codec.js';
import { TTL_MS_MAX } from '../machine/store/layout.js';
import { defineCommand, type Command, type Output } from '../console/command.js';
import { CliError, Exit } from '../console/exit.js';
import { connect, CONNECTION_FLAGS, timeoutMsOf, type Connection } from './connection.js';

/** How a compare-and-set says that the key must be absent. */
const ABSENT_WORD = '--absent';

async function withStore<T>(
  connection: Connection,
  output: Output,
  use: (kv: KvClient, store: StoreClient) => Promise<T>,
): Promise<T> {
  const startedMs = performance.now();
  const client = await connect(connection, output);
  try {
    const leftMs = Math.max(1, timeoutMsOf(connection) - (performance.now() - startedMs));
    const timed = {
      execute: (operation: Uint8Array) => client.execute(operation, { timeout: leftMs }),
      query: (operation: Uint8Array) => client.query(operation, { timeout: leftMs }),
      agreedTime: () => client.agreedTime(),
    };
    return await use(new KvClient(timed), new StoreClient(timed));
  } finally {
    await client.close();
  }
}

/** As StoreClient sees it: what has ended is not there. Where the feature `store` is off, as KvClient does. */
async function readBy<T>(store: () => Promise<T>, kv: () => Promise<T>): Promise<T> {
  try {
    return await store();
  } catch (error) {
    if (!(error instanceof JitPaxosError) || error.code !== 'result-unexpected') throw error;
    return kv();
  }
}

export const get: Command = defineCommand(
  {
    name: 'kv get',
    summary: 'Prints the value of a key. Exit code 1 if the key is absent.',
    positionals: ['KEY'],
    flags: CONNECTION_FLAGS,
    examples: ['jitpaxos kv get greeting'],
  },
  async ({ values, positionals: [key] }, output) => {
    const value = await withStore(values, output, (kv, store) =>
      readBy(
        async () => (await store.get(key!))?.value,
        () => kv.get(key!),
      ),
    );
    if (output.json)
      printJson(output, 'get', key!, {
        found: value !== undefined,
        ...(value === undefined ? { value: null } : valueFields(value)),
      });
    else if (value !== undefined) printBytes(value, output);
    if (value === undefined) throw notFound(key!);
    return Exit.done;
  },
);

export const put: Command = defineCommand(
  {
    name: 'kv put',
    summary: 'Sets a key to a value.',
    positionals: ['KEY', 'VALUE'],
    flags: {
      ...CONNECTION_FLAGS,
      ttl: {
        kind: 'duration',
        min: 1e6,
        max: TTL_MS_MAX * 1e6,
        standard: 'the key stays',
        help: 'remove the key after this time; needs the feature store',
      },
    },
    examples: ['jitpaxos kv put greeting hello', 'jitpaxos kv put session/7 open --ttl 30s'],
  },
  async ({ values, positionals: [key, value] }, output) => {
    const { ttl } = values;
    await withStore(values, output, async (kv, store) => {
      if (ttl === undefined) await kv.put(key!, value!);
      else await store.put(key!, value!, { ttl: Math.round(ttl / 1e6) });
    });
    if (output.json) printJson(output, 'put', key!, { ok: true });
    return Exit.done;
  },
);

export const cas: Command = defineCommand(
  {
    name: 'kv cas',
    summary:
      'Sets a key to NEW if its value is EXPECTED. With --absent, sets it to the one value given if the key does not exist. Exit code 1 if the key has another value.',
    positionals: ['KEY', 'EXPECTED', '[NEW]'],
    flags: {
      ...CONNECTION_FLAGS,
      absent: { kind: 'switch', help: 'the key must not exist: use kv cas KEY NEW --absent' },
    },
    examples: ['jitpaxos kv cas greeting hello goodbye', 'jitpaxos kv cas lock me --absent'],
  },
  async ({ values, positionals: [key, first, second] }, output) => {
    if (values.absent === (second !== undefined)) {
      throw new CliError(
        'argument-invalid',
        `${values.absent ? `${ABSENT_WORD} takes no EXPECTED` : 'NEW is missing'}; use kv cas KEY EXPECTED NEW, or kv cas KEY NEW --absent`,
      );
    }
    const swapped = await withStore(values, output, (kv) =>
      kv.compareAndSet(key!, values.absent ? null : first!, values.absent ? first! : second!),
    );
    if (output.json) printJson(output, 'cas', key!, { swapped });
    if (!swapped)
      throw new CliError(
        'cas-mismatch',
        `"${key}" does not have the expected value, and nothing was changed; read it and decide again`,
      );
    return Exit.done;
  },
);

export const del: Command = defineCommand(
  {
    name: 'kv del',
    summary: 'Removes a key. Exit code 1 if it was absent.',
    positionals: ['KEY'],
    flags: CONNECTION_FLAGS,
    examples: ['jitpaxos kv del greeting'],
  },
  async ({ values, positionals: [key] }, output) => {
    const deleted = await withStore(values, output, (kv) => kv.delete(key!));
    if (output.json) printJson(output, 'del', key!, { deleted });
    if (!deleted) throw notFound(key!);
    return Exit.done;
  },
);

export const incr: Command = defineCommand(
  {
    name: 'kv incr',
    summary: 'Adds to the 64-bit number in a key (0 if the key is absent) and prints the sum.',
    positionals: ['KEY', '[DELTA]'],
    flags: CONNECTION_FLAGS,
    examples: ['jitpaxos kv incr visits', 'jitpaxos kv incr stock -- -5'],
  },
  async ({ values, positionals: [key, delta = '1'] }, output) => {
    if (!/^-?\d+$/.test(delta))
      throw new CliError(
        'argument-invalid',
        `DELTA "${delta}" is not a whole number; use kv incr KEY [DELTA], and -- before a negative one`,
      );
    const value = await withStore(values, output, (kv) => kv.increment(key!, BigInt(delta)));
    if (output.json) printJson(output, 'incr', key!, { value: String(value) });
    else output.line(String(value));
    return Exit.done;
  },
);

export const scan: Command = defineCommand(
  {
    name: 'kv scan',
    summary:
      'Lists keys and values from FROM (inclusive) to TO (exclusive) in byte order, one pair a line, separated by a tab.',
    positionals: ['[FROM]', '[TO]'],
    flags: {
      ...CONNECTION_FLAGS,
      limit: { kind: 'count', default: '100', min: 1, max: KV_SCAN_LIMIT_MAX, help: 'list at most this many' },
    },
    examples: ['jitpaxos kv scan user/ user0 --limit 20'],
  },
  async ({ values, positionals: [from = '', to = ''] }, output) => {
    const range = { from, ...(to === '' ? {} : { to }), limit: values.limit };
    const { entries, more } = await withStore(values, output, (kv, store) =>
      readBy<ScanResult>(
        async () => {
          const { entries: found, next } = await store.scan(range);
          return { entries: found, more: next !== undefined };
        },
        () => kv.scan(range),
      ),
    );
    if (output.json) {
      const shown = entries.map(({ key, value }) => ({
        key: textOf(key) ?? { base64: base64(key) },
        ...valueFields(value),
      }));
      output.line(JSON.stringify({ schema: 'jitpaxos.kv/1', command: 'scan', from, to, entries: shown, more }));
      return Exit.done;
    }
    for (const { key, value } of entries)
      output.line(`${inLine(textOf(key) ?? base64(key))}\t${textOf(value) ?? base64(value)}`);
    if (more) output.note('there are more; raise --limit, or continue from the last key');
    return Exit.done;
  },
);

export const watch: Command = defineCommand(
  {
    name: 'kv watch',
    summary:
      'Prints each change of a key that begins with PREFIX, until it is interrupted: kind (put, delete or expire), revision, key and, with --values, the value, separated by tabs. Needs the feature store.',
    positionals: ['PREFIX'],
    flags: {
      ...CONNECTION_FLAGS,
      from: { kind: 'count', min: 0, max: Number.MAX_SAFE_INTEGER, standard: 'now', help: 'after this revision' },
      values: { kind: 'switch', help: 'show new values; one that was changed again since is left out' },
      count: { kind: 'count', min: 1, max: Number.MAX_SAFE_INTEGER, help: 'end after this many changes' },
    },
    examples: ['jitpaxos kv watch jobs/', 'jitpaxos kv watch jobs/ --values --from 1042 --count 10'],
  },
  async ({ values, positionals: [prefix] }, output) => {
    const client = await connect(values, output);
    const stop = new AbortController();
    const end = (): void => stop.abort();
    process.once('SIGINT', end).once('SIGTERM', end);
    try {
      const store = new StoreClient(client);
      let left = values.count ?? Infinity;
      const from = values.from ?? (await store.scan({ limit: 1 })).revision;
      const changes = store.watch(prefix!, { values: values.values, signal: stop.signal, from });
      output.note(`watching from revision ${from}`);
      for await (const { kind, revision, key, value } of changes) {
        const name = textOf(key) ?? { base64: base64(key) };
        if (output.json)
          output.line(
            JSON.stringify({
              schema: 'jitpaxos.kv/1',
              command: 'watch',
              kind,
              revision,
              key: name,
              ...(value === undefined ? {} : valueFields(value)),
            }),
          );
        else
          output.line(
            [
              kind,
              revision,
              inLine(typeof name === 'string' ? name : name.base64),
              ...(value === undefined ? [] : [textOf(value) ?? base64(value)]),
            ].join('\t'),
          );
        if (--left === 0) break;
      }
    } catch (error) {
      if (!stop.signal.aborted) throw error;
    } finally {
      process.off('SIGINT', end).off('SIGTERM', end);
      await client.close();
    }
    return Exit.done;
  },
);

export const txn: Command = defineCommand(
  {
    name: 'kv txn',
    summary:
      'Executes several operations as one, given as JSON: {"if":[CONDITION…],"do":[OPERATION…],"else":[OPERATION…]}. A condition is {"key":K} with "value":V, "revision":N, "absent":true or "present":true. An operation is {"get":K}, {"put":K,"value":V} with "ttl":MS, "lease":N or "keep":true if wanted, {"delete":K} or {"range":{"prefix":P}}. Prints one line of JSON. Exit code 1 if a condition did not hold. Needs the feature store.',
    positionals: ['TRANSACTION'],
    flags: CONNECTION_FLAGS,
    examples: [
      `jitpaxos kv txn '{"if":[{"key":"leader","absent":true}],"do":[{"put":"leader","value":"me"}],"else":[{"get":"leader"}]}'`,
    ],
  },
  async ({ values, positionals: [text] }, output) => {
    const transaction = parseTransaction(text!);
    const { ok, revision, results } = await withStore(values, output, (_, store) => store.transact(transaction));
    output.line(
      JSON.stringify({ schema: 'jitpaxos.kv/1', command: 'txn', ok, revision, results: results.map(shownResult) }),
    );
    return ok ? Exit.done : Exit.failed;
  },
);

function shownResult(result: StoreOperationResult): object {
  switch (result.kind) {
    case 'get':
      return { get: result.found === undefined ? null : shownValue(result.found) };
    case 'put':
      return { put: { revision: result.revision, ends: result.ends ?? null } };
    case 'delete':
      return { delete: result.deleted };
    case 'range': {
      const { entries, next } = result;
      const shown = entries.map((entry) => ({
        key: textOf(entry.key) ?? { base64: base64(entry.key) },
        ...shownValue(entry),
      }));
      return { range: { entries: shown, more: next !== undefined } };
    }
  }
}

function shownValue({ value, revision, ends, lease }: StoreValue): object {
  return { ...valueFields(value), revision, ends: ends ?? null, lease: lease ?? null };
}

function parseTransaction(text: string): StoreTransaction {
  const wrong = (problem: string): CliError =>
    new CliError('argument-invalid', `TRANSACTION ${problem}; see jitpaxos kv txn --help`);
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch (error) {
    throw wrong(`is not JSON: ${error instanceof Error ? error.message : String(error)}`);
  }
  if (!isObject(parsed)) throw wrong('is not an object');
  for (const name of Object.keys(parsed))
    if (!['if', 'do', 'else'].includes(name)) throw wrong(`has "${name}", and knows "if", "do" and "else"`);
  const list = (name: string): unknown[] => {
    const given = parsed[name] ?? [];
    if (!Array.isArray(given)) throw wrong(`has a "${name}" that is not a list`);
    return given;
  };
  const check = (of: unknown, where: string, fields: Readonly<Record<string, string>>): Record<string, unknown> => {
    if (!isObject(of)) throw wrong(`has ${JSON.stringify(of)} in ${where}, which is not an object`);
    for (const [name, value] of Object.entries(of)) {
      const kind = fields[name];
      if (kind === undefined) throw wrong(`has "${name}" in ${where}, which is not known there`);
      if (typeof value !== kind || (kind === 'boolean' && value !== true))
        throw wrong(`has ${JSON.stringify(value)} for "${name}" in ${where}, which has to be ${NAMED[kind]}`);
    }
    return of;
  };
  const operation = (of: unknown, where: string): unknown => {
    const kinds = isObject(of) ? ['get', 'put', 'delete', 'range'].filter((kind) => kind in of) : [];
    if (kinds.length !== 1)
      throw wrong(`has ${JSON.stringify(of)} in ${where}, which is not one of get, put, delete and range`);
    const fields = OPERATION_FIELDS[kinds[0] as keyof typeof OPERATION_FIELDS];
    const given = check(of, where, fields);
    if (kinds[0] === 'put' && given['value'] === undefined) throw wrong(`has a put without a value in ${where}`);
    if (kinds[0] === 'range') check(given['range'], where, RANGE_FIELDS);
    const { lease } = given;
    return lease === undefined ? given : { ...given, lease: { number: lease } };
  };
  return {
    if: list('if').map((one) => {
      const given = check(one, '"if"', CONDITION_FIELDS);
      if (given['key'] === undefined || Object.keys(given).length !== 2)
        throw wrong(`has ${JSON.stringify(one)} in "if", which is not a key and one condition`);
      return given;
    }),
    do: list('do').map((one) => operation(one, '"do"')),
    else: list('else').map((one) => operation(one, '"else"')),
  } as unknown as StoreTransaction;
}

const NAMED: Readonly<Record<string, string>> = {
  string: 'a text',
  number: 'a number',
  boolean: 'true',
  object: 'an object',
};
const CONDITION_FIELDS = { key: 'string', value: 'string', revision: 'number', absent: 'boolean', present: 'boolean' };
const OPERATION_FIELDS = {
  get: { get: 'string' },
  put: { put: 'string', value: 'string', ttl: 'number', lease: 'number', keep: 'boolean' },
  delete: { delete: 'string' },
  range: { range: 'object' },
};
const RANGE_FIELDS = { prefix: 'string', from: 'string', to: 'string', limit: 'number' };

function notFound(key: string): CliError {
  return new CliError('key-not-found', `there is no key "${key}"; jitpaxos kv scan lists the keys`);
}

function printJson(output: Output, command: string, key: string, fields: Record<string, unknown>): void {
  output.line(JSON.stringify({ schema: 'jitpaxos.kv/1', command, key, ...fields }));
}

/** The bytes unchanged, and a line end. On a terminal, what would control it is shown. */
function printBytes(value: Uint8Array, output: Output): void {
  if (output.terminal) return output.line(textOf(value) ?? Buffer.from(value).toString('latin1'));
  process.stdout.write(value);
  process.stdout.write('\n');
}

/** JSON has no bytes: text is written as text, anything else in base64 under another name. */
function valueFields(value: Uint8Array): Record<string, string> {
  const text = textOf(value);
  return text === undefined ? { valueBase64: base64(value) } : { value: text };
}

function textOf(bytes: Uint8Array): string | undefined {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch {
    return undefined;
  }
}

function base64(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('base64');
}
