/**
 * `jitpaxos redis-user NAME`: adds, changes or removes a user of the Redis front end. The file is written under another
 * name with mode 0600, synced and renamed: a crash leaves the old one or the new one.
 *
 * The rule: a password is never an argument, which other users of the host could see.
 */
import { randomBytes } from 'node:crypto';
import { existsSync, realpathSync, statSync } from 'node:fs';
import {
  hashPassword,
  isUserName,
  PASSWORD_BYTES_MAX,
  readUsers,
  ROLES,
  USERS_MAX,
  USERS_SCHEMA,
  type Role,
  type UsersFile,
} from '../redis/users.js';
import { FileLock } from '../storage/directory-lock.js';
import { defineCommand } from '../console/command.js';
import { CliError, Exit } from '../console/exit.js';
import { KEY_FILE_MODE } from '../console/key-files.js';
import { writeTogether } from '../console/output-file.js';

/** Of a password that is made: 144 bits. */
const MADE_BYTES = 18;
/** A command holds the lock for moments. */
const LOCK_WAIT_MS = 10_000;
const NEXT = 'send SIGHUP to each front end that has this file';

export const redisUser = defineCommand(
  {
    name: 'redis-user',
    summary:
      'Adds a user of jitpaxos redis, or gives one another password, role or prefix. The password is the first line of stdin; on a terminal one is made and printed. The user `default` is the one of clients that send only a password.',
    positionals: ['NAME'],
    flags: {
      users: {
        kind: 'text',
        value: 'FILE',
        default: 'redis-users.json',
        help: 'the file of users; it is made if there is none',
      },
      role: {
        kind: 'choice',
        choices: ROLES,
        default: 'write',
        help: 'read: may only read. write: may also change keys. admin: may also do what concerns others, such as FLUSHALL and CLIENT KILL',
      },
      prefix: {
        kind: 'text',
        value: 'TEXT',
        standard: 'all keys',
        help: 'the user sees only keys that begin with this',
      },
      remove: { kind: 'switch', help: 'remove the user instead' },
    },
    examples: [
      'jitpaxos redis-user app --prefix app: --users redis-users.json < password',
      'jitpaxos redis-user app --remove',
    ],
  },
  async ({ values, positionals: [name] }, output) => {
    if (!isUserName(name))
      throw new CliError('argument-invalid', 'NAME is a text of 1 to 128 bytes without spaces; give another name');
    if (values.role === 'admin' && values.prefix !== undefined)
      throw new CliError('flag-invalid', 'an admin may do what concerns all keys; leave --prefix out');
    const made =
      process.stdin.isTTY === true && !values.remove ? randomBytes(MADE_BYTES).toString('base64url') : undefined;
    const password = values.remove ? '' : (made ?? (await firstLine()));
    if (!values.remove && password === '')
      throw new CliError('argument-invalid', 'the password on stdin is empty; give one, of at least one character');
    const hash = values.remove ? '' : await hashPassword(password);
    const path = values.users;
    if (values.remove && !existsSync(path)) throw noUser(name, path);
    const target = existsSync(path) ? realpathSync(path) : path;
    const lock = FileLock.acquire(target, LOCK_WAIT_MS);
    if (!(lock instanceof FileLock))
      throw new CliError(
        'key-file-locked',
        `${path} is being changed by ${lock === undefined ? 'another process' : `process ${lock.pid}`}; try again when that has ended. If no such process is there, delete ${FileLock.of(target)}`,
      );
    let isNew: boolean;
    try {
      const isThere = existsSync(target);
      const users = isThere ? readUsers(target).users : [];
      isNew = !users.some((user) => user.name === name);
      if (values.remove && isNew) throw noUser(name, path);
      if (values.remove && users.length === 1)
        throw new CliError(
          'argument-invalid',
          `${name} is the last user of ${path}, and a file of users has at least one; add another one first, or delete the file`,
        );
      if (isNew && users.length === USERS_MAX)
        throw new CliError('argument-invalid', `${path} has ${USERS_MAX} users already; remove one first`);
      const prefix = values.prefix === undefined ? {} : { prefix: values.prefix };
      const file: UsersFile = {
        schema: USERS_SCHEMA,
        users: [
          ...users.filter((user) => user.name !== name),
          ...(values.remove ? [] : [{ name, role: values.role as Role, ...prefix, password: hash }]),
        ],
      };
      const content = `${JSON.stringify(file, null, 2)}\n`;
      writeTogether(
        [{ path: target, content, mode: KEY_FILE_MODE, ...(isThere ? { owner: statSync(target) } : {}) }],
        isThere,
      );
    } finally {
      lock.release();
    }
    const done = values.remove ? 'removed' : isNew ? 'added' : 'changed';
    if (output.json)
      output.line(
        JSON.stringify({
          schema: 'jitpaxos.redis-user/1',
          name,
          done,
          ...(made === undefined ? {} : { password: made }),
        }),
      );
    else {
      output.line(`${name} is ${done} in ${path}`);
      if (made !== undefined) output.line(`password: ${made}`);
      output.note(NEXT);
    }
    return Exit.done;
  },
);

function noUser(name: string, path: string): CliError {
  return new CliError('argument-invalid', `${path} has no user ${name}; nothing was changed`);
}

/** Of stdin, without its line end. */
async function firstLine(): Promise<string> {
  let text = '';
  process.stdin.setEncoding('utf8');
  for await (const chunk of process.stdin) {
    text += chunk as string;
    if (text.includes('\n') || text.length > PASSWORD_BYTES_MAX + 1) break;
  }
  const line = text.split('\n', 1)[0]!.replace(/\r$/, '');
  if (Buffer.byteLength(line) > PASSWORD_BYTES_MAX)
    throw new CliError(
      'argument-invalid',
      `the password is longer than ${PASSWORD_BYTES_MAX} bytes; give a shorter one`,
    );
  return line;
}
