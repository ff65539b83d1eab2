/**
 * Who may log in to the front end, and what each user may do. The file is ours, not Redis' ACL file:
 *
 *     { "schema": "jitpaxos.redis-users/1",
 *       "users": [{ "name": "app", "role": "write", "prefix": "app:", "password": "scrypt$16384$8$1$SALT$HASH" }] }
 *
 * Roles: `read` may read, `write` may also change keys, `admin` may also do what concerns others: FLUSHALL, CONFIG SET,
 * CLIENT KILL and LIST. A user with a prefix sees only keys that begin with it. Salt and hash are base64. The command
 * `jitpaxos redis-user` writes the file. A client that sends only a password is the user `default`.
 *
 * The rule: a file that other users of the host may read or write is refused, like a key file.
 */
import { randomBytes, scrypt, timingSafeEqual } from 'node:crypto';
import { JitPaxosError } from '../errors.js';
import { checkKeys, isObject, show } from '../host/options.js';
import { readRegularText } from '../storage/regular-file.js';

export const USERS_SCHEMA = 'jitpaxos.redis-users/1';
export const ROLES = ['read', 'write', 'admin'] as const;
export type Role = (typeof ROLES)[number];

/** Most users of a file. */
export const USERS_MAX = 1024;
const NAME_BYTES_MAX = 128;
/** Longest password: a login must not make the server hash much. */
export const PASSWORD_BYTES_MAX = 512;

/** Cost of a login: 16 MiB, some tens of milliseconds of one processor. */
const COST = 16_384;
const BLOCK = 8;
const PARALLEL = 1;
const SALT_BYTES = 16;
const HASH_BYTES = 32;
/** The most that a file may ask for: 64 MiB. */
const COST_MAX = 65_536;
const MEMORY_BYTES_MAX = 128 << 20;

export interface User {
  readonly name: string;
  readonly role: Role;
  /** A byte a character; empty: all keys. */
  readonly prefix: string;
  readonly password: PasswordHash | undefined;
}

interface PasswordHash {
  readonly cost: number;
  readonly block: number;
  readonly parallel: number;
  readonly salt: Uint8Array;
  readonly hash: Uint8Array;
}

/** One user as the file has it. */
export interface UserEntry {
  readonly name: string;
  readonly role: Role;
  readonly prefix?: string;
  readonly password: string;
}

export interface UsersFile {
  readonly schema: typeof USERS_SCHEMA;
  readonly users: readonly UserEntry[];
}

/** Everybody is this user where no users are set up. */
export const EVERYBODY: User = { name: 'default', role: 'admin', prefix: '', password: undefined };

/** By name, a byte a character. */
export type Users = ReadonlyMap<string, User>;

/**
 * Reads and checks a file of users, or checks the object. No message holds a hash. Throws JitPaxosError
 * `redis-users-unreadable`, `redis-users-exposed` or `redis-users-invalid`.
 */
export function loadUsers(source: string | UsersFile): Users {
  const where = typeof source === 'string' ? `users file ${source}` : 'users';
  const users = new Map<string, User>();
  for (const entry of checkFile(where, typeof source === 'string' ? readUsersFile(source) : source).users) {
    const name = latin1(entry.name);
    users.set(name, {
      name,
      role: entry.role,
      prefix: latin1(entry.prefix ?? ''),
      password: parseHash(entry.password),
    });
  }
  return users;
}

/** The content of a file, checked. Throws as `loadUsers` does. */
export function readUsers(path: string): UsersFile {
  return checkFile(`users file ${path}`, readUsersFile(path));
}

function readUsersFile(path: string): unknown {
  let text: string;
  try {
    text = readRegularText(path, ({ mode, uid }) => {
      const self = process.geteuid?.() ?? uid;
      if ((mode & 0o077) !== 0)
        throw new JitPaxosError(
          'redis-users-exposed',
          `users file ${path} has mode 0${(mode & 0o777).toString(8)}: other users of this host may read or change it; run \`chmod 600 ${path}\``,
        );
      if (uid !== self && uid !== 0 && self !== 0)
        throw new JitPaxosError(
          'redis-users-exposed',
          `users file ${path} belongs to user ${uid}, who may change it, and this process is user ${self}; run \`chown ${self} ${path}\``,
        );
    });
  } catch (error) {
    if (error instanceof JitPaxosError) throw error;
    throw new JitPaxosError(
      'redis-users-unreadable',
      `users file ${path} cannot be read (${error instanceof Error ? error.message : String(error)}); write one with \`jitpaxos redis-user\`, or give the right path`,
      error,
    );
  }
  try {
    return JSON.parse(text);
  } catch {
    // The parser's message quotes the text.
    throw invalid(`users file ${path} is not JSON; correct it, or write one with \`jitpaxos redis-user\``);
  }
}

function checkFile(where: string, value: unknown): UsersFile {
  if (!isObject(value)) throw invalid(`${where} is not a JSON object; write one with \`jitpaxos redis-user\``);
  checkKeys('redis-users-invalid', where, value, ['schema', 'users']);
  const { schema, users } = value;
  if (schema !== USERS_SCHEMA)
    throw invalid(`${where}: "schema" is ${show(schema)}; this program reads "${USERS_SCHEMA}"`);
  if (!Array.isArray(users) || users.length === 0 || users.length > USERS_MAX)
    throw invalid(`${where}: "users" has to be a list of 1 to ${USERS_MAX} users`);
  const names = new Set<string>();
  users.forEach((user: unknown, index) => {
    const at = `${where}: "users"[${index}]`;
    if (!isObject(user)) throw invalid(`${at} is not an object; it has to be { "name", "role", "password" }`);
    checkKeys('redis-users-invalid', at, user, ['name', 'role', 'prefix', 'password']);
    const { name, role, prefix, password } = user;
    if (!isUserName(name))
      throw invalid(
        `${at}: "name" is ${show(name)}; it has to be a text of 1 to ${NAME_BYTES_MAX} bytes without spaces`,
      );
    if (names.has(name)) throw invalid(`${at}: the name ${name} is there already; each user needs one of its own`);
    names.add(name);
    if (!ROLES.includes(role as Role))
      throw invalid(`${at}: "role" is ${show(role)}; it has to be one of ${ROLES.join(', ')}`);
    if (prefix !== undefined && typeof prefix !== 'string')
      throw invalid(`${at}: "prefix" is ${show(prefix)}; it has to be a text`);
    if (role === 'admin' && prefix !== undefined && prefix !== '')
      throw invalid(`${at}: an admin may do what concerns all keys, so it has no "prefix"; leave it out`);
    if (typeof password !== 'string' || parseHash(password) === undefined)
      throw invalid(`${at}: "password" is no hash of this program; write it with \`jitpaxos redis-user\``);
  });
  return value as unknown as UsersFile;
}

/** A text of 1 to 128 bytes without spaces and controls. */
export function isUserName(name: unknown): name is string {
  return (
    typeof name === 'string' && /^[^\s\u0000-\u001f\u007f]+$/u.test(name) && Buffer.byteLength(name) <= NAME_BYTES_MAX
  );
}

/** The hash of a password as the file has it. */
export async function hashPassword(password: string): Promise<string> {
  const salt = randomBytes(SALT_BYTES);
  const made = { cost: COST, block: BLOCK, parallel: PARALLEL, salt, hash: Buffer.alloc(HASH_BYTES) };
  const hash = await derive(Buffer.from(password, 'utf8'), made);
  return ['scrypt', COST, BLOCK, PARALLEL, salt.toString('base64'), hash.toString('base64')].join('$');
}

/**
 * Whether it is the user's password. A name that is not there takes as long, so that the time tells nothing about names.
 * @param password a byte a character
 */
export async function isPassword(user: User | undefined, password: string): Promise<boolean> {
  const known = user?.password ?? NOBODY;
  const hash = await derive(Buffer.from(password, 'latin1'), known);
  return timingSafeEqual(hash, known.hash) && user?.password !== undefined;
}

const NOBODY: PasswordHash = {
  cost: COST,
  block: BLOCK,
  parallel: PARALLEL,
  salt: Buffer.alloc(SALT_BYTES),
  hash: Buffer.alloc(HASH_BYTES),
};

function derive(password: Buffer, { cost, block, parallel, salt, hash }: PasswordHash): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const options = { N: cost, r: block, p: parallel, maxmem: MEMORY_BYTES_MAX };
    scrypt(password, salt, hash.length, options, (error, derived) => {
      if (error === null) resolve(derived);
      else reject(error);
    });
  });
}

function parseHash(text: string): PasswordHash | undefined {
  const match = /^scrypt\$(\d{1,5})\$(\d{1,2})\$(\d{1,2})\$([A-Za-z0-9+/=]+)\$([A-Za-z0-9+/=]+)$/.exec(text);
  if (match === null) return undefined;
  const [cost, block, parallel] = [Number(match[1]), Number(match[2]), Number(match[3])];
  const salt = Buffer.from(match[4]!, 'base64');
  const hash = Buffer.from(match[5]!, 'base64');
  const isPower = cost >= 1024 && cost <= COST_MAX && (cost & (cost - 1)) === 0;
  if (!isPower || block !== BLOCK || parallel < 1 || parallel > 4 || salt.length < 8 || hash.length !== HASH_BYTES)
    return undefined;
  return { cost, block, parallel, salt, hash };
}

function latin1(text: string): string {
  return Buffer.from(text, 'utf8').toString('latin1');
}

function invalid(message: string): JitPaxosError {
  return new JitPaxosError('redis-users-invalid', message);
}
