/**
 * Until when keys stay: EXPIRE and its kin, TTL and its kin, PERSIST, and the options of SET and GETEX. Ends are agreed
 * times in ms. An end beyond 2^53 − 1 ms counts as that.
 */
import { Hold } from '../kv-layout.js';
import { ABSENT, NOT_AN_INTEGER, SYNTAX_ERROR, type Call, type Handler } from './call.js';
import { INT64_MAX, INT64_MIN } from './numbers.js';

const SECOND = 1000;
/** With integers up to this, sums and products below are exact. */
const SMALL_MAX = 1e12;

/** What SET and GETEX may say about the end of a key. The positions are those of the options; 0: not given. */
export interface ExpiryOptions {
  timeAt: number;
  keep: boolean;
  persist: boolean;
}

/**
 * Reads the option at `index`: EX, PX, EXAT or PXAT with a number, or one of those that are allowed: KEEPTTL of SET, PERSIST
 * of GETEX. Returns how many arguments it has; 0: it is something else, or does not go with those before.
 */
export function readExpiryOption(call: Call, index: number, options: ExpiryOptions, isSet: boolean): number {
  if (isSet && call.is(index, 'keepttl') && options.timeAt === 0) {
    options.keep = true;
    return 1;
  }
  if (!isSet && call.is(index, 'persist') && options.timeAt === 0) {
    options.persist = true;
    return 1;
  }
  const isTime = call.is(index, 'ex') || call.is(index, 'px') || call.is(index, 'exat') || call.is(index, 'pxat');
  if (!isTime || index + 1 === call.argc || options.keep || options.persist) return 0;
  // The same option may come again.
  if (options.timeAt !== 0 && !call.sameWord(options.timeAt, index)) return 0;
  options.timeAt = index;
  return 2;
}

/** The end that the option at `index` names; undefined: an error, which is the answer. */
export function endOfOption(call: Call, index: number): number | undefined {
  const isAbsolute = call.is(index, 'exat') || call.is(index, 'pxat');
  const unit = call.is(index, 'ex') || call.is(index, 'exat') ? SECOND : 1;
  return positiveEnd(call, index + 1, unit, isAbsolute);
}

/** The end that an argument names for a key that is written; undefined: an error, which is the answer. */
export function positiveEnd(call: Call, index: number, unit: number, isAbsolute: boolean): number | undefined {
  const value = call.integerOrError(index);
  if (Number.isNaN(value)) return undefined;
  const end = value > 0 ? endOf(call, index, unit, isAbsolute) : undefined;
  if (end === undefined) invalidTime(call);
  return end;
}

function invalidTime(call: Call): void {
  call.error(`ERR invalid expire time in '${call.name}' command`);
}

/** The end that an integer names; undefined if it exceeds 64 bits. */
function endOf(call: Call, index: number, unit: number, isAbsolute: boolean): number | undefined {
  const value = call.integer(index);
  const base = isAbsolute ? 0 : call.now;
  if (Math.abs(value) <= SMALL_MAX) return value * unit + base;
  const product = (call.int64(index) ?? 0n) * BigInt(unit);
  const end = product + BigInt(base);
  if (product < INT64_MIN || product > INT64_MAX || end > INT64_MAX) return undefined;
  return Math.max(-Number.MAX_SAFE_INTEGER, Math.min(Number.MAX_SAFE_INTEGER, Number(end)));
}

function expire(unit: number, isAbsolute: boolean): Handler {
  return (call) => {
    const { out } = call;
    let nx = false;
    let xx = false;
    let gt = false;
    let lt = false;
    for (let i = 3; i < call.argc; i++) {
      if (call.is(i, 'nx')) nx = true;
      else if (call.is(i, 'xx')) xx = true;
      else if (call.is(i, 'gt')) gt = true;
      else if (call.is(i, 'lt')) lt = true;
      else return call.error(`ERR Unsupported option ${call.text(i).slice(0, 128)}`);
    }
    if (nx && (xx || gt || lt))
      return call.error('ERR NX and XX, GT or LT options at the same time are not compatible');
    if (gt && lt) return call.error('ERR GT and LT options at the same time are not compatible');
    if (Number.isNaN(call.integer(2))) return call.error(NOT_AN_INTEGER);
    const end = endOf(call, 2, unit, isAbsolute);
    if (end === undefined) return invalidTime(call);
    const id = call.find(1);
    if (id < 0) return out.integer(0);
    const { store } = call;
    const before = store.records.holdKind(id) === Hold.none ? undefined : store.endOf(id);
    const applies =
      !(nx && before !== undefined) &&
      !(xx && before === undefined) &&
      !(gt && (before === undefined || end <= before)) &&
      !(lt && before !== undefined && end >= before);
    if (!applies) return out.integer(0);
    if (end <= store.nowMs) call.remove(1);
    else call.hold(1, Hold.until, end);
    out.integer(1);
  };
}

function timeToLive(unit: number, isAbsolute: boolean): Handler {
  return (call) => {
    const id = call.find(1);
    if (id < 0) return call.out.integer(-2);
    const { store } = call;
    if (store.records.holdKind(id) === Hold.none) return call.out.integer(-1);
    const end = store.endOf(id);
    const ms = isAbsolute ? end : Math.max(0, end - call.now);
    call.out.integer(unit === 1 ? ms : Math.floor((ms + SECOND / 2) / SECOND));
  };
}

function persist(call: Call): void {
  const id = call.find(1);
  if (id < 0 || call.store.records.holdKind(id) === Hold.none) return call.out.integer(0);
  call.hold(1, Hold.none, 0);
  call.out.integer(1);
}

/** GETEX key [EX s | PX ms | EXAT s | PXAT ms | PERSIST] */
function getex(call: Call): void {
  const { out } = call;
  const options = { timeAt: 0, keep: false, persist: false };
  for (let i = 2; i < call.argc; ) {
    const count = readExpiryOption(call, i, options, false);
    if (count === 0) return call.error(SYNTAX_ERROR);
    i += count;
  }
  const id = call.findString(1);
  if (id === ABSENT) return out.nil();
  if (id < 0) return;
  const end = options.timeAt === 0 ? 0 : endOfOption(call, options.timeAt);
  if (end === undefined) return;
  call.bulkOf(id);
  if (out.overflows) return;
  if (options.persist && call.store.records.holdKind(id) !== Hold.none) call.hold(1, Hold.none, 0);
  if (options.timeAt === 0) return;
  if (end <= call.store.nowMs) call.remove(1);
  else call.hold(1, Hold.until, end);
}

export const EXPIRY_HANDLERS: Readonly<Record<string, Handler>> = {
  expire: expire(SECOND, false),
  pexpire: expire(1, false),
  expireat: expire(SECOND, true),
  pexpireat: expire(1, true),
  ttl: timeToLive(SECOND, false),
  pttl: timeToLive(1, false),
  expiretime: timeToLive(SECOND, true),
  pexpiretime: timeToLive(1, true),
  persist,
  getex,
};
