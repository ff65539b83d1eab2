/**
 * Translates messages between the layouts of two versions. The cores know only the current layouts. Messages to and
 * from a peer of the previous version are translated at the edge, which costs other peers nothing.
 *
 * A field that both versions have keeps its value. A field that only the target has becomes zero (layout.ts says why
 * that is enough). A message that the previous version lacks is not sent to such a peer, as if it were lost.
 */
import { MAX_DATAGRAM_BYTES } from './envelope.js';
import { begin, widthOf, type Layout, type Message } from './layout.js';
import { ALL_MESSAGES, typeOf, validatePrevious } from './messages.js';
import { readU16, writeU16 } from './u64.js';

/** How one message is moved between two layouts that differ. */
export interface Move {
  readonly from: Layout;
  readonly to: Layout;
  /** For each common field, except the bytes at the end: source, target and width. */
  readonly copies: Uint8Array;
  readonly keepsBytes: boolean;
}

function moveBetween(from: Layout, to: Layout): Move {
  const shared = Object.keys(to.fields).filter((field) => from.fields[field] === to.fields[field]);
  const copies = shared
    .filter((field) => to.fields[field] !== 'bin16')
    .flatMap((field) => [from.at[field]!, to.at[field]!, widthOf(to.fields[field]!)]);
  return {
    from,
    to,
    copies: Uint8Array.from(copies),
    keepsBytes: shared.some((field) => to.fields[field] === 'bin16'),
  };
}

/**
 * Writes the message at `bytes[offset]` in its other layout at `out[outOffset]` and returns its new length. The two may
 * not overlap.
 */
export function move(
  { from, to, copies, keepsBytes }: Move,
  bytes: Uint8Array,
  offset: number,
  out: Uint8Array,
  outOffset: number,
): number {
  begin(to, out, outOffset);
  for (let i = 0; i < copies.length; i += 3) {
    const source = offset + copies[i]!;
    const target = outOffset + copies[i + 1]!;
    for (let k = copies[i + 2]! - 1; k >= 0; k--) out[target + k] = bytes[source + k]!;
  }
  if (!keepsBytes) return to.size;
  const length = readU16(bytes, offset + from.size - 2);
  writeU16(out, outOffset + to.size - 2, length);
  for (let k = 0; k < length; k++) out[outOffset + to.size + k] = bytes[offset + from.size + k]!;
  return to.size + length;
}

/** By type; undefined: both versions have the same layout. */
type Moves = readonly (Move | undefined)[];

function movesOf(messages: readonly Message[], make: (message: Message, previous: Layout) => Move): Moves {
  const moves = new Array<Move | undefined>(128).fill(undefined);
  for (const message of messages)
    if (message.previous !== undefined && message.previous !== message)
      moves[message.type] = make(message, message.previous);
  return moves;
}

/** Translates what one process reads and writes. Has scratch space for one datagram. */
export class Translator {
  /** How much longer a message may be in the previous version than in the current one, bytes. */
  readonly growth: number;
  /** The array that holds the message that `read` produced. */
  bytes: Uint8Array;
  offset = 0;
  length = 0;
  private readonly scratch: Uint8Array;
  private readonly toPrevious: Moves;
  private readonly toPresent: Moves;
  private readonly unknown = new Uint8Array(128);

  /** @param messages the table; tests use others */
  constructor(
    messages: readonly Message[] = ALL_MESSAGES,
    private readonly validate: typeof validatePrevious = validatePrevious,
  ) {
    this.toPrevious = movesOf(messages, moveBetween);
    this.toPresent = movesOf(messages, (message, previous) => moveBetween(previous, message));
    for (const message of messages) if (message.previous === undefined) this.unknown[message.type] = 1;
    const sizes = (moves: Moves): number[] =>
      moves.flatMap((each) => (each === undefined ? [] : [each.to.size - each.from.size]));
    this.growth = Math.max(0, ...sizes(this.toPrevious));
    this.scratch = new Uint8Array(MAX_DATAGRAM_BYTES + Math.max(this.growth, 0, ...sizes(this.toPresent)));
    this.bytes = this.scratch;
  }

  /**
   * Reads the message of the previous version at `bytes[offset]`. Returns its length there, or a negative code of
   * Malformed. `bytes`, `offset` and `length` of this object then hold its current form until the next call.
   */
  read(bytes: Uint8Array, offset: number, end: number): number {
    const length = this.validate(bytes, offset, end);
    if (length < 0) return length;
    const wanted = this.toPresent[typeOf(bytes, offset)];
    if (wanted === undefined) {
      this.bytes = bytes;
      this.offset = offset;
      this.length = length;
    } else {
      this.bytes = this.scratch;
      this.offset = 0;
      this.length = move(wanted, bytes, offset, this.scratch, 0);
    }
    return length;
  }

  /**
   * Rewrites the message at `bytes[offset]` into the previous version; `growth` bytes behind it must be free. Returns
   * its new length, or 0 if that version lacks the message.
   */
  rewrite(bytes: Uint8Array, offset: number, length: number): number {
    const type = typeOf(bytes, offset);
    if (this.unknown[type] === 1) return 0;
    const wanted = this.toPrevious[type];
    if (wanted === undefined) return length;
    const { scratch } = this;
    for (let i = 0; i < length; i++) scratch[i] = bytes[offset + i]!;
    return move(wanted, scratch, 0, bytes, offset);
  }
}
