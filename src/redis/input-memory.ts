/**
 * What all connections together hold of commands that were not taken yet.
 *
 * The rule: beyond the bound a connection with a whole command that waits is not read from until that is taken; nothing is
 * lost. A connection with a part of a command is read from: it would never end otherwise, and one command is bounded.
 */
export class InputMemory {
  private held = 0;

  constructor(private readonly bytesMax: number) {}

  get bytes(): number {
    return this.held;
  }

  get isFull(): boolean {
    return this.held > this.bytesMax;
  }

  /** A connection holds so much more, or less. */
  change(bytes: number): void {
    this.held += bytes;
  }
}
