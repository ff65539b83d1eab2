/** The cursor and the options of SCAN, HSCAN and SSCAN. */
import { NOT_AN_INTEGER, SYNTAX_ERROR, type Call } from './call.js';
import { latin1 } from './numbers.js';

const COUNT_DEFAULT = 10;

/** What SCAN, HSCAN and SSCAN say behind the cursor. */
export interface ScanOptions {
  /** Argument of MATCH; 0: none. */
  pattern: number;
  count: number;
  /** Argument of TYPE; 0: none. */
  type: number;
}

/** The cursor in argument `index`; NaN: an error, which is the answer. */
export function readCursor(call: Call, index: number): number {
  const text = latin1(call.bytes, call.starts[index]!, Math.min(24, call.lengths[index]!));
  if (/^\d{1,20}$/.test(text)) return Number(text);
  call.error('ERR invalid cursor');
  return NaN;
}

/** Reads the options from argument `index` on. Undefined: an error, which is the answer. */
export function readScanOptions(call: Call, index: number, hasType: boolean): ScanOptions | undefined {
  const refused = (error: string): undefined => {
    call.error(error);
    return undefined;
  };
  const options = { pattern: 0, count: COUNT_DEFAULT, type: 0 };
  for (let i = index; i < call.argc; i += 2) {
    if (i + 1 === call.argc) return refused(SYNTAX_ERROR);
    if (call.is(i, 'count')) {
      options.count = call.integer(i + 1);
      if (Number.isNaN(options.count)) return refused(NOT_AN_INTEGER);
      if (options.count < 1) return refused(SYNTAX_ERROR);
    } else if (call.is(i, 'match')) options.pattern = i + 1;
    else if (hasType && call.is(i, 'type')) options.type = i + 1;
    else return refused(SYNTAX_ERROR);
  }
  if (options.pattern > 0 && !call.patternFits(options.pattern)) return undefined;
  return options;
}
