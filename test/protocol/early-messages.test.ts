// Messages of a transfer that come before their turn: those of all that is asked for ahead have room.
import t from 'tap';
import { EarlyMessages } from '../../src/protocol/replica/early-messages.js';
import { SPARE_BYTES } from '../../src/protocol/replica/views/piece-window.js';
import { DATAGRAM_BYTES_MIN, ENVELOPE_BYTES_MAX } from '../../src/wire/envelope.js';
import { SnapshotChunk } from '../../src/wire/messages.js';

const HEADER = SnapshotChunk.size;

/** Keeps messages with `length` bytes of a snapshot each, all but the first. Returns how many are there in the end. */
function keptOf(count: number, length: number): number {
  const early = new EarlyMessages();
  const bytes = new Uint8Array(HEADER + length);
  for (let i = 1; i < count; i++) early.keep(i * length, bytes, 0, bytes.length);
  let kept = 1;
  while (early.take(kept * length) !== undefined) kept++;
  return kept;
}

for (const [what, length] of [
  ['the shortest datagrams', DATAGRAM_BYTES_MIN - ENVELOPE_BYTES_MAX - HEADER],
  ['datagrams of 1,400 bytes', 1400 - ENVELOPE_BYTES_MAX - HEADER],
  ['long datagrams', 16_000],
] as const)
  t.test(`the first piece of all that is asked for ahead is lost: ${what}`, (t) => {
    const count = Math.ceil(SPARE_BYTES / length);
    t.equal(keptOf(count, length), count);
    t.end();
  });

t.test('what is beyond the bound is dropped, and not what comes next', (t) => {
  for (const length of [1, 60_000]) {
    const kept = keptOf(100_000, length);
    t.ok(kept > 8 && kept * (HEADER + length) < 1 << 21, `${kept} messages of ${length} bytes`);
  }
  const early = new EarlyMessages();
  const long = new Uint8Array(1 << 19);
  for (let i = 1; i <= 3; i++) early.keep(i, long, 0, long.length);
  t.ok(early.take(1));
  early.keep(3, long, 0, long.length);
  t.ok(early.take(3), 'there is room again');
  early.clear();
  early.keep(4, long, 0, long.length);
  early.keep(4, long, 0, long.length);
  early.keep(5, long, 0, long.length);
  t.ok(early.take(5), 'one that comes twice takes room once');
  early.keep(8, long, 0, long.length);
  t.notOk(early.isLost(6));
  early.keep(9, long, 0, long.length);
  t.ok(early.hasBeyond(9), 'what is behind is forgotten');
  early.keep(10, long, 0, long.length);
  t.ok(early.take(10), 'and takes no room');
  t.end();
});
