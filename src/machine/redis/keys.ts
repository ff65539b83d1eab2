/** Commands on keys of any type, and those that belong to the connection but can stand in a transaction. */
import { Hold, KV_ENTRY_OVERHEAD_BYTES, ValueType } from '../kv-layout.js';
import { KeyScan, randomKey } from '../store/keyspace.js';
import { ABSENT, NOT_A_DATABASE, PATTERN_STEPS_MAX, SYNTAX_ERROR, type Call, type Handler } from './call.js';
import { copyCollection } from './collections.js';
import { readInteger } from './numbers.js';
import { readCursor, readScanOptions } from './scan-options.js';

/** In the order of ValueType. */
const TYPE_NAMES = ['string', 'hash', 'set', 'list', 'zset'];
/** Most keys that KEYS looks at. */
const KEYS_MAX = 50_000;
const KEYS_PER_WORK = 8;
/** Most keys that one SCAN looks at. */
const SCAN_COUNT_MAX = 4096;
const HASH_LIMIT = 2 ** 32;

function del(call: Call): void {
  let removed = 0;
  for (let i = 1; i < call.argc; i++) {
    if (call.find(i) < 0) continue;
    call.remove(i);
    removed++;
  }
  call.out.integer(removed);
}

function exists(call: Call): void {
  let found = 0;
  for (let i = 1; i < call.argc; i++) if (call.find(i) >= 0) found++;
  call.out.integer(found);
}

function type(call: Call): void {
  const id = call.find(1);
  call.out.simple(id < 0 ? 'none' : TYPE_NAMES[call.store.records.type(id)]!);
}

/** RENAME key newkey, RENAMENX key newkey */
function rename(onlyIfAbsent: boolean): Handler {
  return (call) => {
    const { store, out, bytes } = call;
    const id = call.find(1);
    if (id < 0) return call.error('ERR no such key');
    const answer = (): void => (onlyIfAbsent ? out.integer(1) : out.ok());
    if (call.sameArguments(1, 2)) return onlyIfAbsent ? out.integer(0) : out.ok();
    if (!call.keyFits(2)) return;
    const from = call.starts[1]!;
    const fromLength = call.lengths[1]!;
    const to = call.starts[2]!;
    const toLength = call.lengths[2]!;
    const toId = store.findToChange(bytes, to, toLength);
    if (toId >= 0 && onlyIfAbsent) return out.integer(0);
    const freed = toId < 0 ? 0 : store.bytesFreed(toId, toLength);
    if (!call.fits(toId >= 0 && store.isCollection(toId) ? 1 : 0, toLength - fromLength - freed)) return;
    store.move(id, bytes, from, fromLength, toId, bytes, to, toLength);
    answer();
  };
}

/** COPY source destination [DB 0] [REPLACE] */
function copy(call: Call): void {
  const { store, out } = call;
  let replaces = false;
  for (let i = 3; i < call.argc; i++) {
    if (call.is(i, 'replace')) replaces = true;
    else if (call.is(i, 'db') && i + 1 < call.argc) {
      if (!isOnlyDatabase(call, ++i)) return;
    } else return call.error(SYNTAX_ERROR);
  }
  if (call.sameArguments(1, 2)) return call.error('ERR source and destination objects are the same');
  const id = call.find(1);
  if (id < 0) return out.integer(0);
  if (call.find(2) >= 0 && !replaces) return out.integer(0);
  if (!call.keyFits(2)) return;
  const { records } = store;
  const kind = records.holdKind(id);
  const hold = records.hold(id);
  if (store.isCollection(id)) {
    if (!copyCollection(call, 1, 2)) return;
    if (kind !== Hold.none) call.hold(2, kind, hold);
  } else if (!call.put(2, call.value, 0, call.copyValue(id), kind, hold)) return;
  out.integer(1);
}

function randomkey(call: Call): void {
  const id = randomKey(call.store, call.random.u32());
  if (id < 0) return call.out.nil();
  if (call.isQuery) call.saw(id);
  bulkKey(call, id);
}

function bulkKey(call: Call, id: number): void {
  const { records } = call.store;
  call.out.bulk(records.valueBytes(id), records.keyOffset(id), records.keyLength(id));
}

function keyMatches(call: Call, id: number, pattern: number): boolean {
  const { records } = call.store;
  return call.matches(pattern, records.valueBytes(id), records.keyOffset(id), records.keyLength(id));
}

/** KEYS pattern */
function keys(call: Call): void {
  const { store, out } = call;
  if (!call.patternFits(1)) return;
  if (store.keyCount > KEYS_MAX)
    return call.error(`ERR KEYS would look at ${store.keyCount} keys, of at most ${KEYS_MAX}; use SCAN`);
  call.work += store.keyCount / KEYS_PER_WORK;
  const found: number[] = [];
  let cursor = 0;
  let bytes = 0;
  do {
    const scan = new KeyScan(store, cursor);
    for (let id = scan.next(); id >= 0; id = scan.next()) {
      if (call.isQuery) call.saw(id);
      const matches = keyMatches(call, id, 1);
      if (call.patternSteps > PATTERN_STEPS_MAX)
        return call.error(`ERR KEYS with this pattern takes more than ${PATTERN_STEPS_MAX} steps; use SCAN`);
      if (!matches) continue;
      found.push(id);
      bytes += store.records.keyLength(id);
      if (bytes > out.room) return out.overflow(bytes);
    }
    cursor = scan.cursor;
  } while (cursor !== 0);
  out.array(found.length);
  for (const id of found) bulkKey(call, id);
}

/** SCAN cursor [MATCH pattern] [COUNT n] [TYPE type] */
function scan(call: Call): void {
  const from = readCursor(call, 1);
  if (Number.isNaN(from)) return;
  const options = readScanOptions(call, 2, true);
  if (options === undefined) return;
  const { store, out } = call;
  const { records } = store;
  const count = Math.min(options.count, SCAN_COUNT_MAX);
  const found: number[] = [];
  // Keys of one hash come together or not at all: the cursor is a hash.
  let foundBefore = 0;
  let hash = -1;
  let groups = 0;
  let bytes = 0;
  let visited = 0;
  let cursor = 0;
  if (from < HASH_LIMIT) {
    const walk = new KeyScan(store, from);
    let id = walk.next();
    for (; id >= 0; id = walk.next()) {
      if (walk.hash !== hash) {
        if (visited >= count) break;
        hash = walk.hash;
        groups++;
        foundBefore = found.length;
      }
      visited++;
      if (call.isQuery) call.saw(id);
      const fits =
        (options.pattern === 0 || keyMatches(call, id, options.pattern)) &&
        (options.type === 0 || call.is(options.type, TYPE_NAMES[records.type(id)]!));
      if (call.patternSteps > PATTERN_STEPS_MAX) {
        if (groups === 1) return call.patternTooLong();
        found.length = foundBefore;
        break;
      }
      if (!fits) continue;
      // The marks of a bulk string, at most.
      bytes += records.keyLength(id) + 10;
      if (bytes + 64 > out.room && groups === 1) return out.overflow(bytes);
      if (bytes + 64 > out.room) {
        found.length = foundBefore;
        break;
      }
      found.push(id);
    }
    cursor = id >= 0 ? walk.hash : walk.cursor;
  }
  call.work += visited;
  out.array(2);
  out.bulkText(String(cursor));
  out.array(found.length);
  for (const id of found) bulkKey(call, id);
}

const OBJECT_HELP = [
  'ENCODING <key>',
  '    Return the encoding that Redis would use for the value of a <key>.',
  'FREQ <key>',
  '    Not supported: the access frequency is not tracked.',
  'IDLETIME <key>',
  '    Return 0: the time of the last access is not tracked.',
  'REFCOUNT <key>',
  '    Return 1.',
  'REVISION <key>',
  '    Return the number of the last change of the <key>.',
];
const MEMORY_HELP = [
  'USAGE <key> [SAMPLES <count>]',
  '    Return the bytes that the <key> and its value count as towards maxBytes.',
];

function help(call: Call, container: string, lines: readonly string[]): void {
  const { out } = call;
  if (call.argc !== 2) return call.error(`ERR wrong number of arguments for '${call.name}|help' command`);
  out.array(lines.length + 3);
  out.simple(`${container} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:`);
  for (const line of [...lines, 'HELP', '    Print this help.']) out.simple(line);
}

/** OBJECT ENCODING | FREQ | IDLETIME | REFCOUNT | REVISION key */
function object(call: Call): void {
  const { out, store } = call;
  if (call.is(1, 'help')) return help(call, 'OBJECT', OBJECT_HELP);
  const names = ['encoding', 'freq', 'idletime', 'refcount', 'revision'];
  const name = names.find((one) => call.is(1, one));
  if (name === undefined) return call.unknownSubcommand('OBJECT');
  if (call.argc !== 3) return call.error(`ERR wrong number of arguments for 'object|${name}' command`);
  const id = call.find(2);
  if (id < 0) return out.nil();
  switch (name) {
    case 'encoding':
      return out.bulkText(encodingOf(call, id));
    case 'freq':
      return call.error(
        'ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note that when switching between policies at runtime LRU and LFU data will take some time to adjust.',
      );
    case 'idletime':
      return out.integer(0);
    case 'refcount':
      return out.integer(1);
    default:
      return out.integer(store.revisionOf(id));
  }
}

/** What Redis would say for a value of this type and size. */
function encodingOf(call: Call, id: number): string {
  const { records } = call.store;
  const length = records.valueLength(id);
  switch (records.type(id)) {
    case ValueType.hash:
    case ValueType.set:
    case ValueType.zset:
      return smallEncoding(call);
    case ValueType.list:
      return 'quicklist';
    default:
      if (!Number.isNaN(readInteger(records.valueBytes(id), records.valueOffset(id), length))) return 'int';
      return length <= 44 ? 'embstr' : 'raw';
  }
}

function smallEncoding(call: Call): string {
  const { records } = call.store;
  const collection = call.first;
  collection.open(call.bytes, call.starts[2]!, call.lengths[2]!);
  const isSet = collection.type === ValueType.set;
  const large = collection.type === ValueType.zset ? 'skiplist' : 'hashtable';
  if (collection.count > (isSet ? 512 : 128)) return large;
  call.work += collection.count;
  collection.seek(0);
  for (let id = collection.next(); id >= 0; id = collection.next()) {
    const at = collection.memberOffset(id);
    const length = collection.memberLength(id);
    const fits = isSet
      ? !Number.isNaN(readInteger(records.valueBytes(id), at, length))
      : Math.max(length, records.valueLength(id)) <= 64;
    if (!fits) return large;
  }
  return isSet ? 'intset' : 'listpack';
}

/** MEMORY USAGE key [SAMPLES n]: what counts towards maxBytes; of a collection an estimate. */
function memory(call: Call): void {
  const { out, store } = call;
  if (call.is(1, 'help')) return help(call, 'MEMORY', MEMORY_HELP);
  if (!call.is(1, 'usage')) return call.unknownSubcommand('MEMORY');
  if (call.argc < 3) return call.error("ERR wrong number of arguments for 'memory|usage' command");
  for (let i = 3; i < call.argc; i += 2) {
    if (!call.is(i, 'samples') || i + 1 === call.argc) return call.error(SYNTAX_ERROR);
    const samples = call.integerOrError(i + 1);
    if (Number.isNaN(samples)) return;
    if (samples < 0) return call.error(SYNTAX_ERROR);
  }
  const id = call.find(2);
  if (id < 0) return out.nil();
  const { records } = store;
  let bytes = KV_ENTRY_OVERHEAD_BYTES + records.keyLength(id) + records.valueLength(id);
  if (store.isCollection(id)) {
    const collection = call.first;
    collection.open(call.bytes, call.starts[2]!, call.lengths[2]!);
    const part = collection.type === ValueType.list ? collection.at(0) : collection.random(0);
    bytes += collection.count * (KV_ENTRY_OVERHEAD_BYTES + records.keyBytes(part) + records.valueLength(part));
  }
  out.integer(bytes);
}

/** FLUSHALL [SYNC | ASYNC]: both at once. */
function flush(call: Call): void {
  if (call.argc > 2 || (call.argc === 2 && !call.is(1, 'sync') && !call.is(1, 'async')))
    return call.error(SYNTAX_ERROR);
  call.store.empty();
  call.out.ok();
}

/** WATCH key …: the front end reads the revisions. */
function watch(call: Call): void {
  call.out.array(call.argc - 1);
  for (let i = 1; i < call.argc; i++) {
    const id = call.find(i);
    call.out.integer(id === ABSENT ? 0 : call.store.revisionOf(id));
  }
}

function ping(call: Call): void {
  if (call.argc > 2) return call.arityError();
  if (call.argc === 1) call.out.simple('PONG');
  else call.out.bulk(call.bytes, call.starts[1]!, call.lengths[1]!);
}

function echo(call: Call): void {
  call.out.bulk(call.bytes, call.starts[1]!, call.lengths[1]!);
}

function select(call: Call): void {
  if (isOnlyDatabase(call, 1)) call.out.ok();
}

/** Whether an argument is 0, the only database; otherwise the answer says so. */
function isOnlyDatabase(call: Call, index: number): boolean {
  const database = call.integerOrError(index);
  if (Number.isNaN(database) || database === 0) return database === 0;
  const isOne = database >= -0x80000000 && database <= 0x7fffffff;
  call.error(isOne ? 'ERR DB index is out of range' : NOT_A_DATABASE);
  return false;
}

/** MOVE key db: there is no other database. */
function move(call: Call): void {
  if (isOnlyDatabase(call, 2)) call.error('ERR source and destination objects are the same');
}

function time(call: Call): void {
  const seconds = Math.floor(call.now / 1000);
  call.out.array(2);
  call.out.bulkText(String(seconds));
  call.out.bulkText(String((call.now - 1000 * seconds) * 1000));
}

export const KEY_HANDLERS: Readonly<Record<string, Handler>> = {
  del,
  unlink: del,
  exists,
  touch: exists,
  type,
  rename: rename(false),
  renamenx: rename(true),
  copy,
  move,
  randomkey,
  keys,
  scan,
  object,
  memory,
  flushall: flush,
  flushdb: flush,
  dbsize: (call) => call.out.integer(call.store.keyCount),
  watch,
  ping,
  echo,
  select,
  time,
};
