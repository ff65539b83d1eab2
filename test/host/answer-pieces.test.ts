// An answer that comes in pieces: which pieces are used, and which are asked for again.
import t from 'tap';
import { AnswerPieces, Taken, type Piece, type TakenCode } from '../../src/host/answer-pieces.js';

const HEAD = 4;
const WHOLE = Uint8Array.from({ length: 1_000 }, (_, i) => i % 251);

function taker(bytesMax = 2_000, least = 128): [AnswerPieces, (piece: Partial<Piece>) => TakenCode] {
  const pieces = new AnswerPieces(bytesMax, least);
  return [
    pieces,
    (given) => {
      const piece = { edition: 1, wanted: WHOLE.length, offset: 0, length: 300, ...given };
      const message = new Uint8Array(10 + HEAD + piece.length).fill(9);
      message.set(WHOLE.subarray(piece.offset, piece.offset + piece.length), 10 + HEAD);
      return pieces.take(piece, message, 10, 10 + HEAD);
    },
  ];
}

t.test('all pieces, in any order, make the answer', (t) => {
  const [pieces, take] = taker();
  t.equal(take({}), Taken.first);
  t.same(pieces.lost, [300, 600, 900]);
  t.equal(take({ offset: 900, length: 100 }), Taken.nothing);
  t.equal(take({ offset: 300 }), Taken.nothing);
  t.equal(take({ offset: 300 }), Taken.nothing, 'twice is once');
  t.equal(take({ offset: 600 }), Taken.last);
  t.same(pieces.bytes, WHOLE);
  t.same(pieces.head, new Uint8Array(HEAD).fill(9));
  const [short, takeShort] = taker();
  t.equal(takeShort({ wanted: 300 }), Taken.last);
  t.same(short.bytes, WHOLE.subarray(0, 300));
  t.end();
});

t.test('a first piece that comes again tells what is lost', (t) => {
  const [pieces, take] = taker();
  take({});
  take({ offset: 600 });
  t.equal(take({}), Taken.first);
  t.same(pieces.lost, [300, 900]);
  t.end();
});

t.test('a piece that does not fit is not used', (t) => {
  const [pieces, take] = taker();
  for (const bad of [
    { offset: 300 }, // no first piece has come
    { length: 127 },
    { length: 0 },
    { wanted: 2_001 },
    { wanted: 299 },
  ])
    t.equal(take(bad), Taken.nothing, JSON.stringify(bad));
  t.equal(pieces.bytes.length, 0, 'nothing was allocated');
  take({});
  for (const bad of [
    { offset: 150 },
    { offset: 300, length: 299 },
    { offset: 900, length: 99 },
    { offset: 300, edition: 2 },
  ])
    t.equal(take(bad), Taken.nothing, JSON.stringify(bad));
  t.same(pieces.lost, [300, 600, 900]);
  t.end();
});

t.test('another edition, another length or other pieces begin anew', (t) => {
  for (const other of [{ edition: 2 }, { wanted: 990 }, { length: 200 }]) {
    const [pieces, take] = taker();
    take({});
    take({ offset: 300 });
    const { head } = pieces;
    t.equal(take(other), Taken.first);
    t.not(pieces.head, head);
    t.equal(pieces.lost.length, Math.ceil((other.wanted ?? 1_000) / (other.length ?? 300)) - 1);
  }
  const [pieces, take] = taker();
  take({ wanted: 300 });
  t.equal(take({ wanted: 300 }), Taken.first, 'it is whole already');
  t.same(pieces.lost, []);
  pieces.forget();
  t.equal(take({ wanted: 300 }), Taken.last);
  t.end();
});
