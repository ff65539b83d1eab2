/**
 * Messages of a transfer that came before their turn: one answer is many messages, which may overtake each other. May be
 * changed freely: each is checked when its turn comes.
 */

/**
 * Most messages that are kept, and bytes of them. All that is asked for ahead (piece-window.ts) has room, in the shortest
 * datagrams that can be chosen. When it is full, what comes is dropped: what is asked for next comes first.
 */
const MESSAGES_MAX = 4096;
const BYTES_MAX = 1 << 20;
/** If this many came from beyond a place, the message that belongs there is lost rather than late. */
const OVERTAKING_MAX = 3;

export class EarlyMessages {
  /** By the index or the offset behind which each begins. */
  private readonly messages = new Map<number, Uint8Array>();
  private bytes = 0;
  private lostAt = -1;

  clear(): void {
    this.messages.clear();
    this.bytes = 0;
    this.lostAt = -1;
  }

  keep(at: number, bytes: Uint8Array, o: number, length: number): void {
    this.drop(at);
    if (this.messages.size >= MESSAGES_MAX || this.bytes + length > BYTES_MAX) return;
    this.messages.set(at, bytes.slice(o, o + length));
    this.bytes += length;
  }

  /** The message that begins behind `at`, if it came early. */
  take(at: number): Uint8Array | undefined {
    const message = this.messages.get(at);
    this.drop(at);
    return message;
  }

  private drop(at: number): void {
    const message = this.messages.get(at);
    if (message === undefined) return;
    this.messages.delete(at);
    this.bytes -= message.length;
  }

  /** Messages from beyond `at` are here. Those from before it, which are never taken, are forgotten. */
  hasBeyond(at: number): boolean {
    for (const each of this.messages.keys()) if (each < at) this.drop(each);
    return this.messages.size > 0;
  }

  /** The message that begins behind `at` is taken for lost. True once for each place. */
  isLost(at: number): boolean {
    if (at === this.lostAt || !this.hasBeyond(at) || this.messages.size < OVERTAKING_MAX) return false;
    this.lostAt = at;
    return true;
  }

  /** Where the first of them begins. */
  first(): number {
    return Math.min(...this.messages.keys());
  }
}
