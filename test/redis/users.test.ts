/** Users of the front end: the file, the logins, what each may do, and the bounds on guessing. */
import { execFileSync, spawnSync } from 'node:child_process';
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { MAIN } from '../../src/measure/local-cluster.js';
import { Logins } from '../../src/redis/logins.js';
import { hashPassword, loadUsers, readUsers, USERS_SCHEMA, type UsersFile } from '../../src/redis/users.js';
import { command, startFront, Wire } from './stand-in.js';

const hashes = {
  app: await hashPassword('secret'),
  reader: await hashPassword('look'),
  boss: await hashPassword('root'),
};
const USERS: UsersFile = {
  schema: USERS_SCHEMA,
  users: [
    { name: 'app', role: 'write', prefix: 'app:', password: hashes.app },
    { name: 'reader', role: 'read', password: hashes.reader },
    { name: 'default', role: 'write', password: hashes.app },
    { name: 'boss', role: 'admin', password: hashes.boss },
  ],
};
const WRONG = '-WRONGPASS invalid username-password pair or user is disabled.\r\n';

async function opened(t: Test, port: number): Promise<Wire> {
  const wire = await Wire.open(port);
  t.teardown(() => wire.close());
  return wire;
}

t.test('logging in', async (t) => {
  const front = await startFront({ logins: new Logins(loadUsers(USERS)) });
  t.teardown(() => front.close());
  const wire = await opened(t, front.listener.port);
  const both = async (sent: string, reply: string): Promise<void> => void t.equal(await wire.ask(sent, reply), reply);
  await both(command('GET', 'a'), '-NOAUTH Authentication required.\r\n');
  await both(command('NOTHING'), "-ERR unknown command 'NOTHING', with args beginning with: \r\n");
  await both(command('AUTH', 'app', 'wrong'), WRONG);
  await both(command('AUTH', 'nobody', 'secret'), WRONG);
  await both(command('AUTH', 'a', 'b', 'c'), '-ERR syntax error\r\n');
  await both(command('AUTH', 'secret') + command('ACL', 'WHOAMI'), '+OK\r\n$7\r\ndefault\r\n');
  await both(command('RESET') + command('GET', 'a'), '+RESET\r\n-NOAUTH Authentication required.\r\n');
  // The commands behind a login wait until it is decided.
  await both(
    command('AUTH', 'app', 'secret') + command('SET', 'app:a', '1') + command('GET', 'app:a'),
    '+OK\r\n+OK\r\n$1\r\n1\r\n',
  );
  await both(command('GET', 'other'), '-NOPERM No permissions to access a key\r\n');
  // All keys count, those that a number announces, too.
  for (const words of [
    ['ZUNIONSTORE', 'app:z', '2', 'app:a', 'other'],
    ['ZUNIONSTORE', 'other', '1', 'app:a'],
    ['ZINTER', '2', 'app:a', 'other'],
    ['ZINTERCARD', '1', 'other'],
    ['ZMPOP', '2', 'app:a', 'other', 'MIN'],
    ['LMPOP', '1', 'other', 'LEFT'],
    ['ZRANGESTORE', 'app:z', 'other', '0', '1'],
    ['SORT', 'other'],
    ['SORT', 'app:l', 'BY', 'other*'],
    ['SORT_RO', 'app:l', 'get', '*'],
    ['SORT', 'app:l', 'STORE', 'other'],
  ])
    await both(command(...words), '-NOPERM No permissions to access a key\r\n');
  await both(command('DBSIZE'), "-NOPERM User app has no permissions to run the 'dbsize' command\r\n");
  const reader = await opened(t, front.listener.port);
  reader.send(command('HELLO', '3', 'AUTH', 'reader', 'look', 'SETNAME', 'me') + command('SET', 'b', '1'));
  const denied = "-NOPERM User reader has no permissions to run the 'set' command\r\n";
  while (!reader.text.endsWith(denied)) await new Promise(setImmediate);
  t.match(reader.text, /^%7\r\n/);
  reader.text = '';
  t.equal(await reader.ask(command('GET', 'app:a'), '$1\r\n1\r\n'), '$1\r\n1\r\n');
  t.equal(
    await reader.ask(
      command('CLIENT', 'KILL', 'ID', '1'),
      "-NOPERM User reader has no permissions to run the 'client|kill' command\r\n",
    ),
    "-NOPERM User reader has no permissions to run the 'client|kill' command\r\n",
  );
  const boss = await opened(t, front.listener.port);
  await boss.ask(command('AUTH', 'boss', 'root'), '+OK\r\n');
  t.equal(await boss.ask(command('CLIENT', 'KILL', 'USER', 'reader'), ':1\r\n'), ':1\r\n');
  await reader.rest();
  // The file changes: who was removed is closed, the others have their new rights at once.
  const [, , ...others] = USERS.users;
  await both(command('RESET') + command('AUTH', 'app', 'secret'), '+RESET\r\n+OK\r\n');
  await both(command('MULTI') + command('SET', 'app:a', '2'), '+OK\r\n+QUEUED\r\n');
  const second = await opened(t, front.listener.port);
  await second.ask(command('AUTH', 'reader', 'look'), '+OK\r\n');
  front.front.replaceUsers(loadUsers({ ...USERS, users: [{ ...USERS.users[0]!, role: 'read' }, ...others] }));
  t.equal(await second.rest(), '');
  await both(command('EXEC'), '-EXECABORT Transaction discarded because of previous errors.\r\n');
  await both(command('SET', 'app:a', '2'), "-NOPERM User app has no permissions to run the 'set' command\r\n");
  await both(command('GET', 'app:a'), '$1\r\n1\r\n');
  const stranger = await opened(t, front.listener.port);
  stranger.send(`*11\r\n${'$1\r\nx\r\n'.repeat(11)}`);
  t.equal(await stranger.rest(), '-ERR Protocol error: unauthenticated multibulk length\r\n');
});

t.test('guessing is slow', async (t) => {
  let nowMs = 0;
  const logins = new Logins(loadUsers(USERS), () => nowMs);
  const tries = await Promise.all(Array.from({ length: 40 }, (_, i) => logins.check('app', `guess ${i}`, '192.0.2.1')));
  const wrong = tries.filter((login) => login === 'wrong').length;
  t.ok(wrong >= 10 && wrong <= 12, `${wrong} of 40 were checked`);
  t.equal(tries.length - wrong, tries.filter((login) => login === 'too-often').length);
  t.equal(await logins.check('app', 'secret', '192.0.2.1'), 'too-often', 'the right one, too');
  t.match(await logins.check('app', 'secret', '192.0.2.2'), { name: 'app' }, 'other addresses are not concerned');
  t.match(await logins.check('app', 'secret', '192.0.2.1'), { name: 'app' }, 'a password that was right is known');
  nowMs += 3_000;
  t.equal(await logins.check('app', 'again', '192.0.2.1'), 'wrong');
  logins.replace(loadUsers({ ...USERS, users: USERS.users.slice(1) }));
  t.equal(await logins.check('app', 'secret', '192.0.2.3'), 'wrong', 'it was removed');
  t.equal(await logins.check('app', 'x'.repeat(513), '192.0.2.3'), 'wrong');
});

t.test('one host with many addresses of IPv6 guesses no faster', async (t) => {
  const logins = new Logins(loadUsers(USERS), () => 0);
  const guesses = (addresses: readonly string[]): Promise<string[]> =>
    Promise.all(addresses.map(async (address, i) => String(await logins.check('app', `guess ${i}`, address))));
  const near = await guesses(Array.from({ length: 30 }, (_, i) => `2001:db8:0:1${i === 0 ? ':0:0:0:0' : `::${i}:0`}`));
  const wrong = near.filter((login) => login === 'wrong').length;
  t.ok(wrong >= 10 && wrong <= 12, `${wrong} of 30 were checked`);
  t.same(await guesses(['2001:db8::1:ffff:0:0:1', '2001:db8:0:1::%eth0']), ['too-often', 'too-often']);
  t.same(await guesses(['2001:db8:0:2::1', '2001:db8::1', '::1', '192.0.2.1']), Array(4).fill('wrong'));
  t.same(await guesses(Array(9).fill('::ffff:192.0.2.1')), Array(9).fill('wrong'));
  t.same(await guesses(['::ffff:192.0.2.1', '192.0.2.1', '192.0.2.2']), ['too-often', 'too-often', 'wrong']);
});

t.test('a login whose connection is gone is not checked', async (t) => {
  const logins = new Logins(loadUsers(USERS));
  let isGone = false;
  const check = (name: string, i: number, gone: () => boolean): Promise<unknown> =>
    logins.check(name, `guess ${i}`, `192.0.2.${i % 250}`, gone);
  let hasLeft = false;
  const few = Array.from({ length: 6 }, (_, i) => check('app', i, () => hasLeft));
  hasLeft = true;
  const checked = (await Promise.all(few)).map((login) => String(login));
  t.same(checked.sort(), ['gone', 'gone', 'gone', 'gone', 'wrong', 'wrong'], 'its turn comes, and it is passed over');
  const tries = Array.from({ length: 1_002 }, (_, i) => check('app', i, () => isGone));
  t.equal(await check('app', 1, () => false), 'busy', 'two are checked, 1,000 wait');
  isGone = true;
  const last = check('app', 2_000, () => false);
  const found = await Promise.all(tries);
  t.equal(found.filter((login) => login === 'wrong').length, 2);
  t.equal(found.filter((login) => login === 'gone').length, 1_000);
  t.equal(await last, 'wrong', 'it had the place of one of them');
  // The front end says when it is gone.
  let asked: (() => boolean) | undefined;
  let done = (_login: 'gone'): void => undefined;
  logins.check = (_name, _password, _address, gone) => {
    asked = gone;
    return new Promise((resolve) => (done = resolve));
  };
  const front = await startFront({ logins });
  t.teardown(() => front.close());
  const wire = await opened(t, front.listener.port);
  wire.send(command('AUTH', 'app', 'x'));
  while (asked === undefined) await new Promise(setImmediate);
  t.equal(asked(), false);
  wire.socket.end();
  while (!asked()) await new Promise(setImmediate);
  done('gone');
  t.equal(await wire.rest(), '-TRYAGAIN too many logins are being checked; nothing was executed\r\n');
  t.equal(front.front.counters.loginsFailed, 0);
});

t.test('what a user may hear', async (t) => {
  const front = await startFront({ logins: new Logins(loadUsers(USERS)) });
  t.teardown(() => front.close());
  const wire = await opened(t, front.listener.port);
  const both = async (sent: string, reply: string): Promise<void> => void t.equal(await wire.ask(sent, reply), reply);
  await both(command('AUTH', 'app', 'secret'), '+OK\r\n');
  const channel = '-NOPERM No permissions to access a channel\r\n';
  await both(command('PUBLISH', 'other', 'x'), channel);
  await both(command('PUBLISH', '__redis__:invalidate', 'x'), channel);
  await both(command('SUBSCRIBE', 'other'), channel);
  await both(command('PSUBSCRIBE', '*'), channel);

  const broadcast = await opened(t, front.listener.port);
  await broadcast.ask(command('AUTH', 'secret'), '+OK\r\n');
  const connection = [...front.front.connections.values()].at(-1)!;
  t.equal(connection.user!.name, 'default');
  front.front.audience.trackers.start(connection, {
    mode: 'bcast',
    noLoop: false,
    redirect: 0,
    prefixes: new Set(['app:1', 'x']),
    caching: undefined,
    isBroken: false,
  });
  const narrowed = (prefix: string): UsersFile => ({
    ...USERS,
    users: USERS.users.map((user) => (user.name === 'default' ? { ...user, prefix } : user)),
  });
  front.front.replaceUsers(loadUsers(USERS));
  t.notOk(connection.socket.destroyed, 'its rights are as before');
  front.front.replaceUsers(loadUsers(narrowed('app:')));
  t.ok(connection.socket.destroyed, 'it would be told of the keys of others');
});

t.test('INFO tells a user with a prefix no more than DBSIZE does', async (t) => {
  const front = await startFront({ logins: new Logins(loadUsers(USERS)) });
  t.teardown(() => front.close());
  const wire = await opened(t, front.listener.port);
  const both = async (sent: string, reply: string): Promise<void> => void t.equal(await wire.ask(sent, reply), reply);
  const counted = '# Keyspace\r\ndb0:keys=1,expires=0,avg_ttl=0\r\n';
  const full = `$${counted.length}\r\n${counted}\r\n`;
  const none = '$12\r\n# Keyspace\r\n\r\n';
  const info = command('INFO', 'keyspace');
  await both(command('AUTH', 'secret') + command('SET', 'a', '1') + info, `+OK\r\n+OK\r\n${full}`);
  const calls = front.store.calls.length;
  await both(command('AUTH', 'app', 'secret') + info, `+OK\r\n${none}`);
  t.equal(front.store.calls.length, calls, 'the cluster is not asked');
  await both(command('MULTI') + info + command('EXEC'), `+OK\r\n+QUEUED\r\n*1\r\n${none}`);
  await both(command('AUTH', 'reader', 'look') + info, `+OK\r\n${full}`);
});

t.test('the file', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'redis-users-'));
  t.teardown(() => rmSync(folder, { recursive: true }));
  const path = join(folder, 'users.json');
  const run = (args: readonly string[], input: string): { status: number | null; stdout: string; stderr: string } =>
    spawnSync(process.execPath, [MAIN, 'redis-user', ...args, '--users', path], { input, encoding: 'utf8' });
  t.match(run(['app', '--prefix', 'app:'], 'secret\n'), { status: 0, stdout: /app is added/ });
  t.match(run(['boss', '--role', 'admin'], 'root'), { status: 0 });
  t.match(run(['app'], 'other\n'), { status: 0, stdout: /app is changed/ });
  t.notMatch(readFileSync(path, 'utf8'), /other|secret|root/);
  t.match(
    readUsers(path).users.map(({ name, role }) => `${name} ${role}`),
    ['boss admin', 'app write'],
  );
  const logins = new Logins(loadUsers(path));
  t.equal(await logins.check('app', 'secret', 'x'), 'wrong');
  t.match(await logins.check('app', 'other', 'x'), { name: 'app', prefix: '' });
  t.match(run(['nobody', '--remove'], ''), { status: 2, stderr: /no user nobody/ });
  t.match(run(['boss', '--remove'], ''), { status: 0 });
  t.match(run(['app', '--remove'], ''), { status: 2, stderr: /last user/ });
  t.match(run(['a b'], 'x'), { status: 2 });
  t.match(run(['app'], '\n'), { status: 2, stderr: /empty/ });
  t.match(run(['app', '--role', 'admin', '--prefix', 'x'], 'x'), { status: 2 });
  chmodSync(path, 0o644);
  t.throws(() => loadUsers(path), { code: 'redis-users-exposed' });
  chmodSync(path, 0o600);
  for (const [text, code] of [
    ['{', 'redis-users-invalid'],
    ['{"schema":"jitpaxos.redis-users/2","users":[]}', 'redis-users-invalid'],
    [JSON.stringify({ ...USERS, users: [] }), 'redis-users-invalid'],
    [JSON.stringify({ ...USERS, users: [{ ...USERS.users[0], role: 'boss' }] }), 'redis-users-invalid'],
    [JSON.stringify({ ...USERS, users: [{ ...USERS.users[0], password: 'secret' }] }), 'redis-users-invalid'],
    [JSON.stringify({ ...USERS, users: [USERS.users[1], USERS.users[1]] }), 'redis-users-invalid'],
    [JSON.stringify({ ...USERS, users: [{ ...USERS.users[3], prefix: 'x' }] }), 'redis-users-invalid'],
  ] as const) {
    writeFileSync(path, text);
    t.throws(() => loadUsers(path), { code }, text);
  }
  t.throws(() => loadUsers(join(folder, 'none')), { code: 'redis-users-unreadable' });
  execFileSync('mkfifo', [join(folder, 'fifo')]);
  t.throws(() => loadUsers(join(folder, 'fifo')), { code: /redis-users-(unreadable|exposed)/ });
});
