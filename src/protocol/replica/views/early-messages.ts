/** Messages of a transfer that came before their turn: one answer is many messages, which may overtake each other. */

/** Most messages that are kept. */
const MESSAGES_MAX = 128;

export class EarlyMessages {
  /** By the index or the offset behind which each begins. */
  private readonly messages = new Map<number, Uint8Array>();

  get isEmpty(): boolean {
    return this.messages.size === 0;
  }

  clear(): void {
    this.messages.clear();
  }

  keep(at: number, bytes: Uint8Array, o: number, length: number): void {
    // Messages whose place was passed meanwhile are never taken, so the map fills up with them: it begins anew.
    if (this.messages.size >= MESSAGES_MAX) this.messages.clear();
    this.messages.set(at, bytes.slice(o, o + length));
  }

  /** The message that begins behind `at`, if it came early. */
  take(at: number): Uint8Array | undefined {
    const message = this.messages.get(at);
    this.messages.delete(at);
    return message;
  }
}
