// Logs: one line an event, levels, both formats, repeats counted, every transition of a replica once.
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { Client } from '../../src/client/client.js';
import { KvClient } from '../../src/client/kv-client.js';
import { KvMachine } from '../../src/machine/kv.js';
import { LineOutput, neverWait } from '../../src/host/line-output.js';
import {
  formatFor,
  guardedLogger,
  lineLogger,
  streamLogger,
  type LogFields,
  type Logger,
} from '../../src/host/logger.js';
import { Replica } from '../../src/server/replica.js';
import { clusterConfig, startReplicas } from '../server/fixtures.js';

function collected(
  level: 'info' | 'warn' | 'error',
  format: 'json' | 'text',
): { lines: string[]; logger: Logger; at: { ms: number } } {
  const lines: string[] = [];
  const at = { ms: 1_700_000_000_123 };
  return {
    lines,
    at,
    logger: lineLogger({
      level,
      format,
      write: (line) => void lines.push(line),
      now: () => at.ms,
      monotonicMs: () => at.ms,
    }),
  };
}

t.test('lines', (t) => {
  const json = collected('info', 'json');
  json.logger.warn('transport.small-buffer', { replica: 0, next: 'raise "it"\nnow' });
  t.same(JSON.parse(json.lines[0]!), {
    time: '2023-11-14T22:13:20.123Z',
    level: 'warn',
    event: 'transport.small-buffer',
    replica: 0,
    next: 'raise "it"\nnow',
  });
  t.notOk(json.lines[0]!.includes('\n'), 'one line, whatever is in it');
  const text = collected('info', 'text');
  text.logger.error('replica.failed', { replica: 0, error: 'a b\nc', stack: undefined, code: 'x' });
  t.same(text.lines, ['22:13:20.123 ERROR replica.failed  replica=0 error="a b\\nc" code=x']);
  const quiet = collected('warn', 'json');
  quiet.logger.info('a', {});
  quiet.logger.warn('b', {});
  quiet.logger.error('c', {});
  t.same(
    quiet.lines.map((line) => (JSON.parse(line) as { event: string }).event),
    ['b', 'c'],
  );
  t.end();
});

t.test('auto: text on a terminal, JSON elsewhere, also where what was asked for is no format', (t) => {
  const pipe = {};
  const terminal = { isTTY: true };
  t.same(
    [undefined, 'auto', 'yaml', 'json', 'text'].map((asked) => formatFor(asked, pipe)),
    ['json', 'json', 'json', 'json', 'text'],
  );
  t.same(
    [undefined, 'auto', 'yaml', 'json', 'text'].map((asked) => formatFor(asked, terminal)),
    ['text', 'text', 'text', 'json', 'text'],
  );
  t.end();
});

t.test('what repeats is counted, not written', (t) => {
  const { lines, logger, at } = collected('info', 'json');
  for (let i = 0; i < 1_000; i++) logger.warn('send-failing', { error: 'EPERM' });
  t.equal(lines.length, 1);
  logger.warn('send-failing', { error: 'ENETUNREACH' });
  t.equal(lines.length, 2, 'another reason is another line');
  at.ms += 10_001;
  logger.warn('send-failing', { error: 'EPERM' });
  t.match(JSON.parse(lines[2]!), { error: 'EPERM', repeated: 999 });
  at.ms += 10_001;
  logger.warn('send-failing', { error: 'EPERM' });
  t.notOk('repeated' in (JSON.parse(lines[3]!) as object), 'nothing came in between');
  for (let i = 0; i < 10_000; i++) logger.info('many', { i });
  for (let i = 0; i < 10_000; i++) logger.info('many', { i });
  t.equal(lines.length, 20_004, 'of many different lines only the last are remembered: memory has a bound');
  t.end();
});

t.test('a wall clock that is set does not silence what repeats', (t) => {
  const lines: string[] = [];
  let wallMs = 1_700_000_000_000;
  let monotonicMs = 5_000;
  const logger = lineLogger({
    level: 'info',
    format: 'json',
    write: (line) => void lines.push(line),
    now: () => wallMs,
    monotonicMs: () => monotonicMs,
  });
  logger.error('storage.failed', { error: 'EIO' });
  wallMs -= 3_600_000; // an hour back
  monotonicMs += 10_001;
  logger.error('storage.failed', { error: 'EIO' });
  t.equal(lines.length, 2, 'ten seconds later it is said again, whatever the wall clock says');
  wallMs += 7_200_000; // and two hours ahead
  logger.error('storage.failed', { error: 'EIO' });
  t.equal(lines.length, 2, 'no time has passed: it is not said again');
  t.end();
});

/** Takes, holds or refuses what is written, as the test says; calls back later, as streams do. */
class FakeStream {
  readonly taken: string[] = [];
  writableLength = 0;
  mode: 'takes' | 'holds' | 'fails' | 'throws' = 'takes';
  listeners = 0;
  private readonly held: { readonly text: string; readonly done: (error?: Error) => void }[] = [];

  on(_event: 'error', _listener: (error: Error) => void): void {
    this.listeners++;
  }

  write(text: string, done: (error?: Error) => void): boolean {
    if (this.mode === 'throws') throw new Error('ERR_STREAM_DESTROYED');
    this.writableLength += text.length;
    if (this.mode === 'holds') this.held.push({ text, done });
    else this.end(text, done, this.mode === 'fails' ? new Error('ENOSPC') : undefined);
    return false;
  }

  /** The reader goes on. */
  release(): void {
    this.mode = 'takes';
    for (const { text, done } of this.held.splice(0)) this.end(text, done, undefined);
  }

  private end(text: string, done: (error?: Error) => void, error: Error | undefined): void {
    this.writableLength -= text.length;
    if (error === undefined) this.taken.push(text);
    done(error);
  }
}

t.test('a reader that stopped costs a bounded backlog, and is told what it missed', (t) => {
  const stream = new FakeStream();
  const output = new LineOutput(stream, (lines) => `lost ${lines}`, 1_000);
  t.equal(stream.listeners, 1, 'an error of the stream has a listener: without one it ends the process');
  stream.mode = 'holds';
  for (let i = 0; i < 10_000; i++) output.write(`line ${i} ${'x'.repeat(40)}`);
  t.ok(stream.writableLength < 1_100, `the backlog has a bound: ${stream.writableLength} bytes`);
  t.same(stream.taken, []);
  stream.release();
  const kept = stream.taken.filter((text) => text.startsWith('line')).length;
  t.same(
    stream.taken.filter((text) => text.startsWith('lost')),
    [`lost ${10_000 - kept}\n`],
    'every line was written or counted, and that is said once',
  );
  output.write('afterwards');
  t.equal(stream.taken.at(-1), 'afterwards\n');
  t.end();
});

t.test('a full disk: lines that fail are counted, and the next begins on a line of its own', (t) => {
  const stream = new FakeStream();
  const output = new LineOutput(stream, (lines) => `lost ${lines}`);
  output.write('before');
  stream.mode = 'fails';
  for (let i = 0; i < 3; i++) output.write('while full');
  stream.mode = 'throws';
  output.write('destroyed');
  stream.mode = 'takes';
  output.write('after');
  t.same(stream.taken, ['before\n', '\nafter\n', 'lost 4\n']);
  t.end();
});

t.test('a terminal that was stopped with Ctrl-S is not waited for', (t) => {
  const calls: boolean[] = [];
  const handle = { setBlocking: (blocking: boolean) => void calls.push(blocking) };
  neverWait({ isTTY: true, _handle: handle });
  t.same(calls, [false]);
  neverWait({ _handle: handle });
  neverWait({ isTTY: true });
  t.same(calls, [false], 'other streams are left alone');
  t.end();
});

t.test('lost lines are told in the format of the log', (t) => {
  const stream = new FakeStream();
  const logger = streamLogger(stream, 'info', 'json');
  stream.mode = 'fails';
  logger.info('a', {});
  stream.mode = 'takes';
  logger.info('b', {});
  t.match(
    stream.taken.map((text) => JSON.parse(text) as object),
    [{ event: 'b' }, { level: 'warn', event: 'log.lines-lost', lines: 1 }],
  );
  t.end();
});

t.test('a logger that throws, or whose promise does, stops no replica and no client', async (t) => {
  const warnings: string[] = [];
  const onWarning = (warning: Error): void =>
    void (warning.name === 'JitPaxosWarning' && warnings.push(warning.message));
  process.on('warning', onWarning);
  t.teardown(() => process.off('warning', onWarning));
  let calls = 0;
  const throwing = (): void => {
    calls++;
    throw new Error('the log server is gone');
  };
  const rejecting = (() => {
    calls++;
    return Promise.reject(new Error('the log server is gone'));
  }) as unknown as () => void;
  const cluster = await clusterConfig(3);
  const replicas = await Promise.all(
    cluster.replicas.map((_, id) =>
      Replica.start({
        cluster,
        id,
        machine: new KvMachine(),
        logger:
          id === 0
            ? { info: throwing, warn: throwing, error: throwing }
            : { info: rejecting, warn: rejecting, error: rejecting },
      }),
    ),
  );
  t.teardown(() => Promise.all(replicas.map((replica) => replica.close())));
  const client = await Client.connect({
    cluster,
    timeout: 20_000,
    logger: { info: throwing, warn: throwing, error: throwing },
  });
  t.teardown(() => client.close());
  const kv = new KvClient(client);
  await kv.put('a', 'b');
  await replicas[0]!.close(); // a change of view: everybody logs
  await kv.put('a', 'c');
  t.equal(Buffer.from((await kv.get('a'))!).toString(), 'c');
  t.ok(calls > 3, `${calls} lines were tried`);
  await sleep(10);
  t.equal(
    warnings.filter((warning) => warning.startsWith('Replica.start: ')).length,
    3,
    `said once for each logger: ${warnings.join('; ')}`,
  );
});

t.test('what is no logger is refused', async (t) => {
  t.throws(() => guardedLogger('here', { info: () => undefined } as unknown as Logger), {
    code: 'option-invalid',
    message: /here: logger .*"warn"/,
  });
  await t.rejects(
    Replica.start({
      cluster: await clusterConfig(3),
      id: 0,
      machine: new KvMachine(),
      logger: console.log as unknown as Logger,
    }),
    { code: 'option-invalid' },
  );
  t.end();
});

t.test('every transition is logged exactly once, with the view and status it led to', async (t) => {
  const events: { event: string; fields: LogFields }[] = [];
  const log = (event: string, fields: LogFields): void => void events.push({ event, fields });
  const cluster = await clusterConfig(3);
  const replicas = await startReplicas(cluster, () => new KvMachine(), {
    logger: { info: log, warn: log, error: log },
  });
  t.teardown(() => Promise.all(replicas.map((replica) => replica.close())));
  const client = await Client.connect({ cluster, timeout: 20_000 });
  t.teardown(() => client.close());
  await new KvClient(client).put('a', 'b');
  await replicas[0]!.close();
  await new KvClient(client).put('a', 'c');
  const settled = (): boolean =>
    replicas
      .slice(1)
      .every((replica) => replica.status().status === 'normal' && replica.status().view === replicas[1]!.status().view);
  for (let i = 0; i < 3_000 && !settled(); i++) await sleep(10);
  t.ok(settled());
  const { view } = replicas[1]!.status();
  t.ok(view > 0);
  const of = (replica: number, event: string, inView?: number): number =>
    events.filter(
      (each) =>
        each.event === event &&
        each.fields['replica'] === replica &&
        (inView === undefined || each.fields['view'] === inView),
    ).length;
  for (const id of [0, 1, 2]) {
    t.equal(of(id, 'replica.start'), 1);
    t.equal(of(id, 'replica.serving'), 1);
    t.equal(of(id, 'replica.closing'), id === 0 ? 1 : 0);
  }
  for (const id of [1, 2]) {
    t.equal(of(id, 'replica.promise', view), 1, `replica ${id} promised view ${view} once`);
    t.equal(of(id, 'replica.start-view', view) + of(id, 'replica.join-view', view), 1, 'and took part in it once');
  }
  t.equal(of(1, 'replica.start-view', view) + of(2, 'replica.start-view', view), 1, 'one of them started it');
  const lines = events.map(({ event, fields }) => JSON.stringify([event, fields]));
  t.equal(new Set(lines).size, lines.length, 'no line is there twice');
});
