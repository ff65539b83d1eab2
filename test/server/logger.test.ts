// Logs: one line an event, levels, both formats, repeats counted, every transition of a replica once.
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { Client } from '../../src/client/client.js';
import { KvClient } from '../../src/client/kv-client.js';
import { KvMachine } from '../../src/machine/kv.js';
import { lineLogger, type LogFields, type Logger } from '../../src/server/logger.js';
import { clusterConfig, startReplicas } from './fixtures.js';

function collected(level: 'info' | 'warn' | 'error', format: 'json' | 'text'): { lines: string[]; logger: Logger; at: { ms: number } } {
  const lines: string[] = [];
  const at = { ms: 1_700_000_000_123 };
  return { lines, at, logger: lineLogger({ level, format, write: (line) => void lines.push(line), now: () => at.ms }) };
}

t.test('lines', (t) => {
  const json = collected('info', 'json');
  json.logger.warn('transport.small-buffer', { replica: 0, next: 'raise "it"\nnow' });
  t.same(JSON.parse(json.lines[0]!), { time: '2023-11-14T22:13:20.123Z', level: 'warn', event: 'transport.small-buffer', replica: 0, next: 'raise "it"\nnow' });
  t.notOk(json.lines[0]!.includes('\n'), 'one line, whatever is in it');
  const text = collected('info', 'text');
  text.logger.error('replica.failed', { replica: 0, error: 'a b\nc', stack: undefined, code: 'x' });
  t.same(text.lines, ['22:13:20.123 ERROR replica.failed  replica=0 error="a b\\nc" code=x']);
  const quiet = collected('warn', 'json');
  quiet.logger.info('a', {});
  quiet.logger.warn('b', {});
  quiet.logger.error('c', {});
  t.same(quiet.lines.map((line) => (JSON.parse(line) as { event: string }).event), ['b', 'c']);
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

t.test('every transition is logged exactly once, with the view and status it led to', async (t) => {
  const events: { event: string; fields: LogFields }[] = [];
  const log = (event: string, fields: LogFields): void => void events.push({ event, fields });
  const cluster = await clusterConfig(3);
  const replicas = await startReplicas(cluster, () => new KvMachine(), { logger: { info: log, warn: log, error: log } });
  t.teardown(() => Promise.all(replicas.map((replica) => replica.close())));
  const client = await Client.connect({ cluster, timeout: 20_000 });
  t.teardown(() => client.close());
  await new KvClient(client).put('a', 'b');
  await replicas[0]!.close();
  await new KvClient(client).put('a', 'c');
  const settled = (): boolean => replicas.slice(1).every((replica) => replica.status().status === 'normal' && replica.status().view === replicas[1]!.status().view);
  for (let i = 0; i < 500 && !settled(); i++) await sleep(10);
  t.ok(settled());
  const { view } = replicas[1]!.status();
  t.ok(view > 0);
  const of = (replica: number, event: string, inView?: number): number => events.filter((each) => each.event === event && each.fields['replica'] === replica && (inView === undefined || each.fields['view'] === inView)).length;
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
