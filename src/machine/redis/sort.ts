/** SORT and SORT_RO: elements of a list, a set or a sorted set, in the order of themselves or of values of other keys. */
import { KV_ENTRY_OVERHEAD_BYTES, KV_KEY_BYTES_MAX, ValueType } from '../kv-layout.js';
import { elementCost, keyCost } from '../store/collection.js';
import { ABSENT, SYNTAX_ERROR, type Call, type Handler } from './call.js';
import { fewMembers } from './collections.js';
import { readWeight } from './doubles.js';
import { latin1, writeLatin1 } from './numbers.js';

interface Options {
  by: string | undefined;
  readonly get: string[];
  isDescending: boolean;
  isAlpha: boolean;
  offset: number;
  limit: number;
  /** Argument of the key that the result is stored to; 0: none. */
  store: number;
}

/** Undefined: an error, which is the answer. */
function readOptions(call: Call, isReadOnly: boolean): Options | undefined {
  const options: Options = {
    by: undefined,
    get: [],
    isDescending: false,
    isAlpha: false,
    offset: 0,
    limit: -1,
    store: 0,
  };
  for (let i = 2; i < call.argc; i++) {
    const left = call.argc - i - 1;
    if (call.is(i, 'asc')) options.isDescending = false;
    else if (call.is(i, 'desc')) options.isDescending = true;
    else if (call.is(i, 'alpha')) options.isAlpha = true;
    else if (call.is(i, 'limit') && left >= 2) {
      options.offset = call.integerOrError(i + 1);
      if (Number.isNaN(options.offset)) return undefined;
      options.limit = call.integerOrError(i + 2);
      if (Number.isNaN(options.limit)) return undefined;
      i += 2;
    } else if (!isReadOnly && call.is(i, 'store') && left >= 1) options.store = ++i;
    else if (call.is(i, 'by') && left >= 1) options.by = call.text(++i);
    else if (call.is(i, 'get') && left >= 1) options.get.push(call.text(++i));
    else {
      call.error(SYNTAX_ERROR);
      return undefined;
    }
  }
  return options;
}

/** The elements, as strings of bytes; of a sorted set by score. Undefined: an error, which is the answer. */
function elementsOf(call: Call, lookups: number): string[] | undefined {
  const { first } = call;
  const { records } = call.store;
  const id = call.find(1);
  if (id === ABSENT) return [];
  const type = records.type(id);
  if (type === ValueType.string || type === ValueType.hash) {
    call.wrongType();
    return undefined;
  }
  call.open(first, 1, type);
  if (!fewMembers(call, first.count * (1 + lookups))) return undefined;
  const elements: string[] = [];
  if (type === ValueType.zset) first.seekRank(0);
  else if (type === ValueType.set) first.seek(0);
  let bytes = 0;
  for (let i = 0; i < first.count; i++) {
    const part =
      type === ValueType.list ? first.at(i) : type === ValueType.zset ? first.nextByScore(false) : first.next();
    const isElement = type === ValueType.list;
    const length = isElement ? records.valueLength(part) : first.memberLength(part);
    bytes += length;
    if (bytes > SORTED_BYTES_MAX) break;
    elements.push(
      latin1(records.valueBytes(part), isElement ? records.valueOffset(part) : first.memberOffset(part), length),
    );
  }
  // Each is compared with some others, byte by byte.
  if (bytes > SORTED_BYTES_MAX) return tooMany(call, bytes);
  call.scanned(bytes);
  return elements;
}

/** Elements, and values that are read for them, have no more bytes. */
const SORTED_BYTES_MAX = 2 ** 20;

function tooMany(call: Call, bytes: number): undefined {
  call.error(`ERR the command would take ${bytes} bytes in hand, of at most ${SORTED_BYTES_MAX} at once`);
  return undefined;
}

/** What the key that a pattern names for an element holds, or a field of it; undefined: nothing. */
function lookedUp(call: Call, pattern: string, element: string): string | undefined {
  if (pattern === '#') return element;
  const star = pattern.indexOf('*');
  if (star < 0) return undefined;
  const arrow = pattern.indexOf('->', star + 1);
  const hasField = arrow >= 0 && arrow + 2 < pattern.length;
  const name = pattern.slice(0, star) + element + pattern.slice(star + 1, hasField ? arrow : undefined);
  const { store, second, value } = call;
  const { records } = store;
  if (name.length === 0 || name.length > KV_KEY_BYTES_MAX) return undefined;
  writeLatin1(value, 0, name);
  let id = store.find(value, 0, name.length);
  if (id < 0) return undefined;
  if (call.isQuery) call.saw(id);
  if (records.type(id) !== (hasField ? ValueType.hash : ValueType.string)) return undefined;
  if (hasField) {
    const field = pattern.slice(arrow + 2);
    second.open(value, 0, name.length);
    id = second.find(value, name.length, writeLatin1(value, name.length, field));
    if (id < 0) return undefined;
  }
  call.scanned(records.valueLength(id));
  return latin1(records.valueBytes(id), records.valueOffset(id), records.valueLength(id));
}

interface Weighed {
  readonly element: string;
  /** What it is sorted by: a text with ALPHA, which may be absent, otherwise a number. */
  readonly text: string | undefined;
  readonly number: number;
}

function compareTexts(a: string | undefined, b: string | undefined): number {
  if (a === b) return 0;
  if (a === undefined || b === undefined) return a === undefined ? -1 : 1;
  return a < b ? -1 : 1;
}

/** The elements in order. Undefined: an error, which is the answer. */
function inOrder(
  call: Call,
  elements: readonly string[],
  by: string | undefined,
  options: Options,
): string[] | undefined {
  const weighed: Weighed[] = [];
  let isWrong = false;
  let bytes = 0;
  for (const element of elements) {
    const text = by === undefined ? element : lookedUp(call, by, element);
    bytes += text?.length ?? 0;
    if (bytes > SORTED_BYTES_MAX) return tooMany(call, bytes);
    const number = options.isAlpha || text === undefined ? 0 : readWeight(text);
    if (number === undefined) isWrong = true;
    weighed.push({ element, text: options.isAlpha ? text : undefined, number: number ?? 0 });
  }
  if (isWrong) {
    call.error("ERR One or more scores can't be converted into double");
    return undefined;
  }
  const sign = options.isDescending ? -1 : 1;
  const compare = options.isAlpha
    ? (a: Weighed, b: Weighed): number => sign * compareTexts(a.text, b.text)
    : (a: Weighed, b: Weighed): number => {
        // Two infinities have no difference.
        const order = a.number < b.number ? -1 : a.number > b.number ? 1 : compareTexts(a.element, b.element);
        return sign * order;
      };
  return weighed.sort(compare).map(({ element }) => element);
}

/** SORT key [BY pattern] [LIMIT offset count] [GET pattern …] [ASC | DESC] [ALPHA] [STORE destination] */
function sort(isReadOnly: boolean): Handler {
  return (call) => {
    const options = readOptions(call, isReadOnly);
    if (options === undefined) return;
    const elements = elementsOf(call, options.get.length + (options.by === undefined ? 0 : 1));
    if (elements === undefined) return;
    const isUnsorted = options.by !== undefined && !options.by.includes('*');
    let sorted: string[] | undefined = elements;
    // A set has no order of its own that could be stored.
    if (isUnsorted && options.store > 0 && call.first.type === ValueType.set && elements.length > 0)
      sorted = inOrder(call, elements, undefined, { ...options, isAlpha: true });
    else if (!isUnsorted) sorted = inOrder(call, elements, options.by, options);
    else if (options.isDescending && elements.length > 0 && call.first.type !== ValueType.set) sorted.reverse();
    if (sorted === undefined) return;
    const from = Math.min(Math.max(0, options.offset), sorted.length);
    const chosen = sorted.slice(from, options.limit < 0 ? undefined : from + options.limit);
    const values: (string | undefined)[] = [];
    let bytes = 0;
    for (const element of chosen)
      for (const pattern of options.get.length === 0 ? ['#'] : options.get) {
        const value = lookedUp(call, pattern, element);
        bytes += value?.length ?? 0;
        if (bytes > SORTED_BYTES_MAX) return void tooMany(call, bytes);
        values.push(value);
      }
    if (options.store > 0) storeList(call, options.store, values);
    else answer(call, values);
  };
}

function answer(call: Call, values: readonly (string | undefined)[]): void {
  const { out } = call;
  out.array(values.length);
  for (const value of values) {
    if (value === undefined) out.nil();
    else out.bulkText(value);
    if (out.overflows) return;
  }
}

function storeList(call: Call, key: number, values: readonly (string | undefined)[]): void {
  if (!call.keyFits(key)) return;
  if (values.length > 0) {
    if (!fewMembers(call, values.length)) return;
    // One more for what is left of a collection that is replaced.
    let bytes = keyCost(ValueType.list, call.lengths[key]!) + KV_ENTRY_OVERHEAD_BYTES;
    for (const value of values) bytes += elementCost(value?.length ?? 0);
    if (!call.fits(values.length + 2, bytes)) return;
  }
  call.remove(key);
  if (values.length > 0) {
    const list = call.first;
    list.openToChange(call.bytes, call.starts[key]!, call.lengths[key]!);
    list.create(ValueType.list);
    for (const value of values) list.push(false, call.value, 0, writeLatin1(call.value, 0, value ?? ''));
    list.save();
  }
  call.out.integer(values.length);
}

export const SORT_HANDLERS: Readonly<Record<string, Handler>> = { sort: sort(false), sort_ro: sort(true) };
