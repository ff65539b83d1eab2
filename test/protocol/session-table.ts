/** What the tests of the session table share. */
import { Executed, type Session } from '../../src/protocol/log/session.js';
import type { SessionTable } from '../../src/protocol/log/sessions.js';
import { wordsOf } from '../../src/wire/copy.js';

const RESULT = new Uint8Array(4096);
const RESULT_WORDS = wordsOf(RESULT);
const done = new Executed();

/** Entry `index` executes the next request of the lane, with a result of that length. */
export function executed(table: SessionTable, session: Session, lane: number, length: number, index: number): void {
  done.lane = lane;
  done.request = session.lastRequest(lane) + 1;
  done.index = index;
  done.chainHi = -index;
  done.chainLo = index * 7;
  done.status = 0;
  RESULT.fill(index & 0xff, 0, length);
  done.resultWords = RESULT_WORDS;
  done.resultOffset = 0;
  done.resultLength = length;
  table.executed(session, done);
}

export function bytesOf(table: SessionTable): Uint8Array {
  const bytes = new Uint8Array(table.encodedLength());
  if (table.write(bytes, 0) !== bytes.length) throw new Error('the table has other bytes than it says');
  return bytes;
}
