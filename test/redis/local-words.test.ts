/** What the front end answers itself, against a Redis of Debian, word for word. */
import t from 'tap';
import { silentLogger } from '../../src/host/logger.js';
import { KvMachine } from '../../src/machine/kv.js';
import { RedisFrontEnd } from '../../src/redis/server.js';
import { clusterConfig, startReplicas } from '../server/fixtures.js';
import { REDIS_MISSING, startRedis } from './real-redis.js';
import { RespClient } from './resp-client.js';

/** Each list is one connection. `·` is a space in a word, `¶` a line end, `∅` an empty word. */
const CONNECTIONS: readonly (readonly string[])[] = [
  [
    ...[
      'PING',
      'PING a b',
      'PING a',
      'ECHO',
      'ECHO a',
      'foo',
      'foo a b c',
      `foo ${'x'.repeat(100)} ${'y'.repeat(100)}`,
    ],
    ...[`${'x'.repeat(200)} a`, 'GET', 'GET a b', 'CLIENT', 'CLIENT foo', 'CLIENT foo bar', 'CLIENT SETNAME'],
    ...['CLIENT SETNAME a b', 'CLIENT SETNAME a·b', 'CLIENT SETNAME a¶b', 'CLIENT SETNAME ok', 'CLIENT GETNAME'],
    ...['CLIENT SETNAME ∅', 'CLIENT GETNAME', 'CLIENT REPLY foo', 'CLIENT NO-EVICT foo', 'CLIENT NO-EVICT on'],
    ...['CLIENT NO-EVICT off', 'CLIENT KILL', 'CLIENT KILL 1.2.3.4:5', 'CLIENT KILL ID', 'CLIENT KILL ID foo'],
    ...[
      'CLIENT KILL ID 0',
      'CLIENT KILL ID -1',
      'CLIENT KILL FOO bar',
      'CLIENT KILL ID 999999',
      'CLIENT KILL TYPE foo',
    ],
    ...['CLIENT KILL SKIPME maybe', 'CLIENT KILL USER nobody', 'CLIENT KILL USER default'],
    ...[
      'CLIENT KILL ADDR 1.1.1.1:1 LADDR 2.2.2.2:2',
      'CLIENT LIST FOO',
      'CLIENT LIST TYPE foo',
      'CLIENT LIST TYPE pubsub',
    ],
    ...['CLIENT LIST ID foo', 'CLIENT LIST ID 99999', 'CLIENT LIST ID', 'CLIENT TRACKINGINFO', 'CLIENT GETREDIR'],
    ...['CLIENT CACHING yes', 'CLIENT TRACKING foo', 'CLIENT TRACKING off', 'CLIENT ID x'],
  ],
  [
    ...[
      'SELECT',
      'SELECT 0',
      'SELECT foo',
      'SELECT -1',
      'SELECT 99999999999',
      'SELECT 16',
      'SELECT 00',
      'AUTH',
      'AUTH a',
    ],
    ...['AUTH a b', 'AUTH default b', 'AUTH a b c', 'HELLO 1', 'HELLO 4', 'HELLO foo', 'HELLO 2 foo', 'HELLO 2 AUTH'],
    ...['HELLO 2 AUTH a', 'HELLO 2 SETNAME', 'HELLO 2 SETNAME a·b', 'HELLO 2 AUTH a b', 'HELLO 99999999999999999999'],
    ...[
      'RESET a',
      'WAIT a b',
      'WAIT 0 a',
      'WAIT 0 -1',
      'WAIT',
      'ROLE a',
      'TIME a',
      'DEBUG',
      'DEBUG SLEEP 0',
      'DEBUG FOO',
    ],
  ],
  [
    ...['MULTI', 'MULTI', 'WATCH a', 'EXEC', 'EXEC', 'DISCARD', 'MULTI', 'GET', 'EXEC', 'MULTI', 'foo', 'PING', 'EXEC'],
    ...['MULTI', 'PING', 'ECHO x', 'SELECT 0', 'SELECT foo', 'CLIENT GETNAME', 'CONFIG GET appendonly', 'EXEC'],
    ...[
      'MULTI',
      'UNWATCH',
      'PING',
      'DISCARD',
      'UNWATCH',
      'WATCH',
      'MULTI x',
      'MULTI',
      'PING',
      'EXEC x',
      'EXEC',
      'EXEC x',
    ],
    ...['MULTI', 'CLIENT foo', 'EXEC', 'MULTI', 'SET a b', 'PING a b', 'EXEC', 'MULTI', 'RESET', 'EXEC'],
    ...['WATCH a', 'SET a c', 'MULTI', 'GET a', 'EXEC', 'WATCH a', 'WATCH a b', 'UNWATCH', 'SET a d', 'MULTI', 'EXEC'],
  ],
  [
    ...['CONFIG', 'CONFIG foo', 'CONFIG GET', 'CONFIG GET nothing', 'CONFIG GET appendonly', 'CONFIG GET APPENDONLY'],
    ...['CONFIG GET save', 'CONFIG SET', 'CONFIG SET a', 'CONFIG SET a b', 'CONFIG SET a b c'],
    ...[
      'CONFIG SET maxmemory-samples 5 foo 6',
      'CONFIG SET maxmemory-samples 5',
      'CONFIG RESETSTAT',
      'CONFIG RESETSTAT x',
    ],
    ...[
      'SLOWLOG',
      'SLOWLOG foo',
      'SLOWLOG LEN',
      'SLOWLOG RESET',
      'SLOWLOG GET foo',
      'SLOWLOG GET -2',
      'SLOWLOG GET 1 2',
    ],
    ...[
      'SLOWLOG LEN x',
      'ACL WHOAMI',
      'ACL',
      'COMMAND FOO',
      'COMMAND GETKEYS',
      'COMMAND GETKEYS foo',
      'COMMAND GETKEYS GET',
    ],
    ...['COMMAND GETKEYS PING', 'COMMAND GETKEYS GET a', 'COMMAND GETKEYS MSET a b c d', 'COMMAND GETKEYS EVAL x 1 a'],
    ...['COMMAND GETKEYS EVAL x 0', 'COMMAND GETKEYS EVAL x 3 a', 'COMMAND GETKEYS SINTERCARD 2 a b'],
    ...['COMMAND GETKEYS OBJECT encoding a', 'COMMAND GETKEYS SET a b EX 10', 'COMMAND INFO foo', 'COMMAND LIST FOO'],
    ...['COMMAND LIST FILTERBY', 'COMMAND LIST FILTERBY FOO x', 'COMMAND LIST FILTERBY MODULE x', 'COMMAND COUNT x'],
    ...[
      'COMMAND DOCS foo',
      'SCRIPT',
      'SCRIPT FOO',
      'SCRIPT EXISTS',
      'SCRIPT EXISTS a b',
      'SCRIPT FLUSH',
      'SCRIPT FLUSH FOO',
    ],
    ...[
      'SCRIPT FLUSH SYNC',
      'SCRIPT FLUSH A B',
      'SCRIPT LOAD',
      'FUNCTION',
      'FUNCTION FOO',
      'FUNCTION LIST',
      'FUNCTION FLUSH',
    ],
    ...['FUNCTION FLUSH FOO', 'MEMORY', 'MEMORY FOO', 'OBJECT', 'OBJECT FOO', 'OBJECT ENCODING'],
  ],
];

/** Before each connection's commands. */
const VERSIONS = [[], ['HELLO', '3']] as const;

function wordsOf(line: string): string[] {
  return line.split(' ').map((word) => word.replaceAll('·', ' ').replaceAll('¶', '\n').replaceAll('∅', ''));
}

t.test('the same words', { skip: REDIS_MISSING }, async (t) => {
  const real = await startRedis(t);
  const cluster = { ...(await clusterConfig(1)), features: ['store', 'redis'] as const };
  const replicas = await startReplicas(cluster, () => new KvMachine());
  const front = await RedisFrontEnd.start({ cluster, listen: '127.0.0.1:0', timeout: 60_000, logger: silentLogger });
  t.teardown(async () => {
    await front.close();
    await replicas[0]!.close();
  });
  while (!front.isConnected) await new Promise((resolve) => setTimeout(resolve, 5));
  for (const hello of VERSIONS)
    for (const lines of CONNECTIONS) {
      const [theirs, ours] = [await RespClient.connect(real), await RespClient.connect(front.port)];
      for (const client of [theirs, ours]) if (hello.length > 0) await client.raw(...hello);
      for (const line of lines) {
        const words = wordsOf(line);
        const expected = (await theirs.raw(...words)).toString('latin1');
        t.equal((await ours.raw(...words)).toString('latin1'), expected, `${hello.join(' ')} ${line.slice(0, 60)}`);
      }
      theirs.close();
      ours.close();
    }
});
