/**
 * Puts an answer together that comes in pieces, so that no datagram is longer than every path carries. All pieces but the
 * last have the length of the first one; a piece of another length is not used.
 *
 * The rule: bytes from elsewhere size no more than `bytesMax`, and a first piece that is too short is refused, because
 * each of the others takes a question of its own.
 */

/** A part of an answer, as its message says. */
export interface Piece {
  /** Which edition of the whole answer it is a part of. */
  readonly edition: number;
  /** Length of the whole answer. */
  readonly wanted: number;
  readonly offset: number;
  readonly length: number;
}

/** What a piece meant. */
export const Taken = {
  /** It was not used, or it is one of several that are on their way. */
  nothing: 0,
  /** It is the first one of an answer: the others, `lost`, have to be asked for. Also if it came again. */
  first: 1,
  /** Nothing is missing any more. */
  last: 2,
} as const;

export type TakenCode = (typeof Taken)[keyof typeof Taken];

const NOTHING = new Uint8Array(0);

export class AnswerPieces {
  /** The answer. All of it has come once `take` said `last`. */
  bytes: Uint8Array = NOTHING;
  /** The message of the first piece without its part of the answer. Another object for another answer. */
  head: Uint8Array = NOTHING;
  /** Length of all pieces but the last. */
  step = 0;
  private edition = 0;
  private readonly received = new Set<number>();

  /**
   * @param bytesMax no answer is longer
   * @param least no first piece is shorter, unless the answer is
   */
  constructor(
    private readonly bytesMax: number,
    private readonly least: number,
  ) {}

  /** Takes the piece whose message is at `bytes[o]` and whose bytes begin at `bytes[partAt]`. */
  take(piece: Piece, bytes: Uint8Array, o: number, partAt: number): TakenCode {
    const { edition, wanted, offset, length } = piece;
    if (wanted > this.bytesMax || length === 0 || offset + length > wanted) return Taken.nothing;
    const isOther =
      this.step === 0 ||
      edition !== this.edition ||
      wanted !== this.bytes.length ||
      (offset === 0 && length !== this.step);
    if (isOther) {
      if (offset !== 0 || length < Math.min(wanted, this.least)) return Taken.nothing;
      this.edition = edition;
      this.bytes = new Uint8Array(wanted);
      this.head = bytes.slice(o, partAt);
      this.step = length;
      this.received.clear();
    } else if (offset % this.step !== 0 || length !== Math.min(this.step, wanted - offset)) return Taken.nothing;
    if (!this.received.has(offset)) {
      this.received.add(offset);
      this.bytes.set(bytes.subarray(partAt, partAt + length), offset);
      if (this.received.size === Math.ceil(wanted / this.step)) return Taken.last;
    }
    return offset === 0 ? Taken.first : Taken.nothing;
  }

  /** What has come is of no use: the next answer begins anew. */
  forget(): void {
    this.step = 0;
  }

  /** Where the pieces begin that have not come. */
  get lost(): number[] {
    const offsets: number[] = [];
    for (let next = 0; next < this.bytes.length; next += this.step) if (!this.received.has(next)) offsets.push(next);
    return offsets;
  }
}
