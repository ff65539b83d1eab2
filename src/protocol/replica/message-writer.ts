/**
 * What the writers of a replica's messages share: room in the outbox, the constant part of a message, and the present
 * view in it. One method a message stands in client-answers.ts, replica-sender.ts and transfer-sender.ts, so that a
 * handler reads as what it says to whom.
 *
 * Rule S kept by all of them: every message goes through `state.out`, which lets none leave before what it says is
 * durable (durable-outbox.ts).
 */
import { copyWords, LastWords } from '../../wire/copy.js';
import { begin, type Message } from '../../wire/layout.js';
import { writeI32, writeIndex } from '../../wire/u64.js';
import type { Reply } from '../../machine/state-machine.js';
import { Counter } from '../counters.js';
import type { ReplicaState } from './replica-state.js';

/** What a member answers in place of a result. */
export const NO_RESULT: Reply = { bytes: new Uint8Array(0), offset: 0, capacity: 0, length: 0 };

export class MessageWriter {
  protected readonly sources = new LastWords();
  private readonly targets = new LastWords();

  constructor(protected readonly state: ReplicaState) {}

  /**
   * Reserves room, writes the constant part and the present view; −1 when there is no room.
   * @param ahead a sign of life, which need not wait for the log
   */
  protected open(message: Message, to: number, extra: number, ahead = false): number {
    const { out } = this.state;
    const o = ahead ? out.reserveAhead(to, message.size + extra) : out.reserve(to, message.size + extra);
    if (o < 0) {
      this.noRoom();
      return -1;
    }
    begin(message, out.bytes, o);
    // `view` is the first field of every message: array header, type, marker.
    writeI32(out.bytes, o + 3, this.state.view);
    return o;
  }

  protected noRoom(): void {
    this.state.counters[Counter.outbox_full]!++;
  }

  protected copyResult(result: Reply, target: number): void {
    if (result.length > 0)
      copyWords(this.sources.of(result.bytes), result.offset, this.outWords(), target, result.length);
  }

  /** The memory that was reserved last. */
  protected outWords(): DataView {
    const { out } = this.state;
    return out.words ?? this.targets.of(out.bytes);
  }

  protected indexAndChain(bytes: Uint8Array, indexAt: number, chainAt: number, index: number): void {
    const { log } = this.state;
    writeIndex(bytes, indexAt, index);
    writeI32(bytes, chainAt, log.chainHi(index));
    writeI32(bytes, chainAt + 4, log.chainLo(index));
  }
}
