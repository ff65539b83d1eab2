/**
 * EVAL and EVALSHA. Lua is not run here: these scripts, which clients and packages use for locks and limits, are known by
 * their text and its SHA-1, and each is a command with the same result. A package that changes a script gets the error
 * that any other script gets.
 */
import { Hold, KEEP_HOLD } from '../kv-layout.js';
import { NOT_AN_INTEGER, WRONG_TYPE, type Call, type Handler } from './call.js';
import { positiveEnd } from './expiry.js';
import { readInteger, writeInteger } from './numbers.js';

const FIRST_KEY = 3;
const SECOND = 1000;

export interface KnownScript {
  /** Whose it is, and what it does. */
  readonly name: string;
  /** SHA-1 of the text, in hexadecimal digits of lower case. */
  readonly digest: string;
  readonly text: string;
}

interface Script extends KnownScript {
  /** How many keys it takes; 0: any number. */
  readonly keys: number;
  /** How many arguments it needs. */
  readonly args: number;
  /** @param args the first argument behind the keys */
  readonly execute: (call: Call, args: number) => void;
}

/** Whether a key's value is that of an argument; undefined: it is of another type, and the answer says so. */
function holdsValue(call: Call, key: number, value: number): boolean | undefined {
  const id = call.findString(key);
  if (id === WRONG_TYPE) return undefined;
  return id >= 0 && call.store.records.valueEquals(id, call.bytes, call.starts[value]!, call.lengths[value]!);
}

/** Removes the lock if it is the token's. */
function release(call: Call, args: number): void {
  const isHeld = holdsValue(call, FIRST_KEY, args);
  if (isHeld === undefined) return;
  if (isHeld) call.remove(FIRST_KEY);
  call.out.integer(isHeld ? 1 : 0);
}

/** Gives the lock more time, on top of what it has or in the place of that, if it is the token's and it ends at all. */
function extend(call: Call, args: number): void {
  const isHeld = holdsValue(call, FIRST_KEY, args);
  if (isHeld === undefined) return;
  const { records } = call.store;
  const id = call.find(FIRST_KEY);
  if (!isHeld || records.holdKind(id) === Hold.none) return call.out.integer(0);
  const given = call.integer(args + 1);
  if (Number.isNaN(given)) return call.error(NOT_AN_INTEGER);
  const isAdded = call.lengths[args + 2] === 1 && call.bytes[call.starts[args + 2]!] === 0x30;
  endAfter(call, isAdded ? given + call.store.endOf(id) - call.now : given);
}

function reacquire(call: Call, args: number): void {
  const isHeld = holdsValue(call, FIRST_KEY, args);
  if (isHeld === undefined) return;
  if (!isHeld) return call.out.integer(0);
  const given = call.integer(args + 1);
  if (Number.isNaN(given)) return call.error(NOT_AN_INTEGER);
  endAfter(call, given);
}

/** The first key ends this many ms from now. */
function endAfter(call: Call, ms: number): void {
  if (ms <= 0) call.remove(FIRST_KEY);
  else call.hold(FIRST_KEY, Hold.until, Math.min(Number.MAX_SAFE_INTEGER, call.now + ms));
  call.out.integer(1);
}

/** Sets all keys if none is there. */
function acquireAll(call: Call, args: number): void {
  for (let key = FIRST_KEY; key < args; key++) if (call.find(key) >= 0) return call.out.integer(0);
  setAll(call, args);
}

/** Sets all keys again if all have the token. */
function extendAll(call: Call, args: number): void {
  for (let key = FIRST_KEY; key < args; key++) {
    const isHeld = holdsValue(call, key, args);
    if (isHeld === undefined) return;
    if (!isHeld) return call.out.integer(0);
  }
  setAll(call, args);
}

function setAll(call: Call, args: number): void {
  const { store } = call;
  const length = call.lengths[args]!;
  const end = positiveEnd(call, args + 1, 1, false);
  if (end === undefined || !call.valueFits(length)) return;
  let keys = 0;
  let bytes = 0;
  for (let key = FIRST_KEY; key < args; key++) {
    if (!call.keyFits(key)) return;
    const id = call.find(key);
    keys += store.keysAdded(id);
    bytes += Math.max(0, store.bytesAdded(id, call.lengths[key]!, length));
  }
  if (!call.fits(keys, bytes)) return;
  for (let key = FIRST_KEY; key < args; key++) call.putArgument(key, args, Hold.until, end);
  call.out.integer(args - FIRST_KEY);
}

/** Removes those of the keys that have the token. */
function releaseAll(call: Call, args: number): void {
  // Nothing is removed if one of them is of another type.
  for (let key = FIRST_KEY; key < args; key++) if (holdsValue(call, key, args) === undefined) return;
  let released = 0;
  for (let key = FIRST_KEY; key < args; key++) {
    if (holdsValue(call, key, args) !== true) continue;
    call.remove(key);
    released++;
  }
  call.out.integer(released);
}

/** Adds points to a counter that ends some seconds after its first point. */
function limitRate(call: Call, args: number): void {
  const { store, out } = call;
  const { records } = store;
  const points = call.integer(args);
  const seconds = call.integer(args + 1);
  const end = positiveEnd(call, args + 1, SECOND, false);
  if (end === undefined) return;
  const id = call.findString(FIRST_KEY);
  if (id === WRONG_TYPE) return;
  const before = id < 0 ? 0 : readInteger(records.valueBytes(id), records.valueOffset(id), records.valueLength(id));
  const sum = before + points;
  if (!Number.isSafeInteger(sum)) return call.error(NOT_AN_INTEGER);
  const staysForEver = id >= 0 && records.holdKind(id) === Hold.none;
  const left = id < 0 ? end - call.now : staysForEver ? SECOND * seconds : store.endOf(id) - call.now;
  const length = writeInteger(call.value, 0, sum);
  const isNew = id < 0 || staysForEver;
  if (!call.put(FIRST_KEY, call.value, 0, length, isNew ? Hold.until : KEEP_HOLD, isNew ? end : 0)) return;
  out.array(2);
  out.integer(sum);
  out.integer(left);
}

const SCRIPTS: readonly Script[] = [
  {
    name: 'redis-py Lock, release',
    digest: 'c3f8721cbb97f72bc19e972846bd7aaf91901658',
    keys: 1,
    args: 1,
    execute: release,
    text:
      '\n' +
      "        local token = redis.call('get', KEYS[1])\n" +
      '        if not token or token ~= ARGV[1] then\n' +
      '            return 0\n' +
      '        end\n' +
      "        redis.call('del', KEYS[1])\n" +
      '        return 1\n' +
      '    ',
  },
  {
    name: 'redis-py Lock, extend',
    digest: 'a4e8783852e6b949f9ef3a97212805108459a890',
    keys: 1,
    args: 3,
    execute: extend,
    text:
      '\n' +
      "        local token = redis.call('get', KEYS[1])\n" +
      '        if not token or token ~= ARGV[1] then\n' +
      '            return 0\n' +
      '        end\n' +
      "        local expiration = redis.call('pttl', KEYS[1])\n" +
      '        if not expiration then\n' +
      '            expiration = 0\n' +
      '        end\n' +
      '        if expiration < 0 then\n' +
      '            return 0\n' +
      '        end\n' +
      '\n' +
      '        local newttl = ARGV[2]\n' +
      '        if ARGV[3] == "0" then\n' +
      '            newttl = ARGV[2] + expiration\n' +
      '        end\n' +
      "        redis.call('pexpire', KEYS[1], newttl)\n" +
      '        return 1\n' +
      '    ',
  },
  {
    name: 'redis-py Lock, reacquire',
    digest: '1cac51482acf5858da00f6d685d68f886cd6b6b2',
    keys: 1,
    args: 2,
    execute: reacquire,
    text:
      '\n' +
      "        local token = redis.call('get', KEYS[1])\n" +
      '        if not token or token ~= ARGV[1] then\n' +
      '            return 0\n' +
      '        end\n' +
      "        redis.call('pexpire', KEYS[1], ARGV[2])\n" +
      '        return 1\n' +
      '    ',
  },
  {
    name: 'redlock 4, lock',
    digest: 'e5a322e2634ef59a516e8ea150cb085afafee684',
    keys: 0,
    args: 2,
    execute: acquireAll,
    text:
      '\n' +
      '\t-- Return 0 if an entry already exists.\n' +
      '\tfor i, key in ipairs(KEYS) do\n' +
      '\t\tif redis.call("exists", key) == 1 then\n' +
      '\t\t\treturn 0\n' +
      '\t\tend\n' +
      '\tend\n' +
      '\n' +
      '\t-- Create an entry for each provided key.\n' +
      '\tfor i, key in ipairs(KEYS) do\n' +
      '\t\tredis.call("set", key, ARGV[1], "PX", ARGV[2])\n' +
      '\tend\n' +
      '\n' +
      '\t-- Return the number of entries added.\n' +
      '\treturn #KEYS\n',
  },
  {
    name: 'redlock 4, unlock',
    digest: '0f0f23b9048b36752b5be114f357ba083449f908',
    keys: 0,
    args: 1,
    execute: releaseAll,
    text:
      '\n' +
      '\tlocal count = 0\n' +
      '\tfor i, key in ipairs(KEYS) do\n' +
      '\t\t-- Only remove entries for *this* lock value.\n' +
      '\t\tif redis.call("get", key) == ARGV[1] then\n' +
      '\t\t\tredis.pcall("del", key)\n' +
      '\t\t\tcount = count + 1\n' +
      '\t\tend\n' +
      '\tend\n' +
      '\n' +
      '\t-- Return the number of entries removed.\n' +
      '\treturn count\n',
  },
  {
    name: 'redlock 4, extend',
    digest: 'ce46f80993d5dac20dd066eb301a4e37994bdbed',
    keys: 0,
    args: 2,
    execute: extendAll,
    text:
      '\n' +
      '\t-- Return 0 if an entry exists with a *different* lock value.\n' +
      '\tfor i, key in ipairs(KEYS) do\n' +
      '\t\tif redis.call("get", key) ~= ARGV[1] then\n' +
      '\t\t\treturn 0\n' +
      '\t\tend\n' +
      '\tend\n' +
      '\n' +
      '\t-- Update the entry for each provided key.\n' +
      '\tfor i, key in ipairs(KEYS) do\n' +
      '\t\tredis.call("set", key, ARGV[1], "PX", ARGV[2])\n' +
      '\tend\n' +
      '\n' +
      '\t-- Return the number of entries updated.\n' +
      '\treturn #KEYS\n',
  },
  {
    name: 'redlock 5, acquire',
    digest: '96da70f7716f27d278a5218544df37fd8b0a5e4c',
    keys: 0,
    args: 2,
    execute: acquireAll,
    text:
      '\n' +
      '  -- Return 0 if an entry already exists.\n' +
      '  for i, key in ipairs(KEYS) do\n' +
      '    if redis.call("exists", key) == 1 then\n' +
      '      return 0\n' +
      '    end\n' +
      '  end\n' +
      '\n' +
      '  -- Create an entry for each provided key.\n' +
      '  for i, key in ipairs(KEYS) do\n' +
      '    redis.call("set", key, ARGV[1], "PX", ARGV[2])\n' +
      '  end\n' +
      '\n' +
      '  -- Return the number of entries added.\n' +
      '  return #KEYS\n',
  },
  {
    name: 'redlock 5, extend',
    digest: 'aed6f382e410db8ba7926d4e5e9aab410bf2a78a',
    keys: 0,
    args: 2,
    execute: extendAll,
    text:
      '\n' +
      '  -- Return 0 if an entry exists with a *different* lock value.\n' +
      '  for i, key in ipairs(KEYS) do\n' +
      '    if redis.call("get", key) ~= ARGV[1] then\n' +
      '      return 0\n' +
      '    end\n' +
      '  end\n' +
      '\n' +
      '  -- Update the entry for each provided key.\n' +
      '  for i, key in ipairs(KEYS) do\n' +
      '    redis.call("set", key, ARGV[1], "PX", ARGV[2])\n' +
      '  end\n' +
      '\n' +
      '  -- Return the number of entries updated.\n' +
      '  return #KEYS\n',
  },
  {
    name: 'redlock 5, release',
    digest: 'e4612211c9f8f51c257e26e056b0a654b3187242',
    keys: 0,
    args: 1,
    execute: releaseAll,
    text:
      '\n' +
      '  local count = 0\n' +
      '  for i, key in ipairs(KEYS) do\n' +
      '    -- Only remove entries for *this* lock value.\n' +
      '    if redis.call("get", key) == ARGV[1] then\n' +
      '      redis.pcall("del", key)\n' +
      '      count = count + 1\n' +
      '    end\n' +
      '  end\n' +
      '\n' +
      '  -- Return the number of entries removed.\n' +
      '  return count\n',
  },
  {
    name: 'rate-limiter-flexible',
    digest: 'a1de965f42e177aa339706bd580f049065eca79a',
    keys: 1,
    args: 2,
    execute: limitRate,
    text: "redis.call('set', KEYS[1], 0, 'EX', ARGV[2], 'NX') local consumed = redis.call('incrby', KEYS[1], ARGV[1]) local ttl = redis.call('pttl', KEYS[1]) if ttl == -1 then   redis.call('expire', KEYS[1], ARGV[2])   ttl = 1000 * ARGV[2] end return {consumed, ttl} ",
  },
];

/** For SCRIPT LOAD and SCRIPT EXISTS. */
export const KNOWN_SCRIPTS: readonly KnownScript[] = SCRIPTS;

const UNKNOWN = 'ERR Lua is not run here: only scripts of redis-py Lock, redlock and rate-limiter-flexible are known';

/** EVAL script numkeys key … arg … */
function evaluate(call: Call): void {
  run(call, (script) => isText(call, script.text), UNKNOWN);
}

/** EVALSHA digest numkeys key … arg … */
function evaluateDigest(call: Call): void {
  const unknown = 'NOSCRIPT No matching script. Please use EVAL.';
  if (call.lengths[1] !== 40) return call.error(unknown);
  run(call, (script) => call.is(1, script.digest), unknown);
}

function isText(call: Call, text: string): boolean {
  if (call.lengths[1] !== text.length) return false;
  const from = call.starts[1]!;
  for (let i = 0; i < text.length; i++) if (call.bytes[from + i] !== text.charCodeAt(i)) return false;
  return true;
}

function run(call: Call, isIt: (script: Script) => boolean, unknown: string): void {
  const keys = call.integer(2);
  if (Number.isNaN(keys)) return call.error(NOT_AN_INTEGER);
  if (keys > call.argc - FIRST_KEY) return call.error("ERR Number of keys can't be greater than number of args");
  if (keys < 0) return call.error("ERR Number of keys can't be negative");
  const script = SCRIPTS.find(isIt);
  if (script === undefined) return call.error(unknown);
  if ((script.keys > 0 && keys !== script.keys) || call.argc - FIRST_KEY - keys < script.args)
    return call.error(`ERR the script takes ${script.keys || 'any number of'} keys and ${script.args} arguments`);
  const args = FIRST_KEY + keys;
  // The value of a lock is compared with that of each key, or written to it.
  if (script.keys === 0 && !call.fewBytes(keys * call.lengths[args]!)) return;
  script.execute(call, args);
}

export const SCRIPT_HANDLERS: Readonly<Record<string, Handler>> = { eval: evaluate, evalsha: evaluateDigest };
