/**
 * Orders messages behind durability. Rule S (model/JITPaxos.tla): a step is durable before a message that depends on it
 * leaves. The model has no action for it: because of this rule, a crash that keeps the log changes nothing there.
 *
 * While nothing waits to be persisted, messages go straight into the host's outbox. Once a turn changes durable state,
 * messages are kept here, and leave when the storage reports that turn's token. Keeping all of them, not only the
 * acknowledgements, is simpler to trust and costs nothing in mode `memory`, where only view changes write.
 *
 * There is one exception. A sign of life says nothing about the log, so entries that are still being written need not
 * delay it (`reserveAhead`); otherwise every slow write would make the others suspect this replica. It waits for the
 * hard state all the same.
 */
import { WIRE_VERSION } from '../../wire/versions.js';
import type { Outbox } from '../contract.js';
import { invariant } from '../invariant.js';

/** Most messages kept at once; further ones are lost as on the network, and the protocol recovers. */
const MAX_KEPT = 65_536;

interface Kept {
  readonly token: number;
  readonly to: number;
  readonly message: Uint8Array;
}

export class DurableOutbox implements Outbox {
  /** The present turn changed durable state that has no token yet. */
  dirty = false;
  /** Something changed that is to be written, and that no message depends on. */
  private quiet = false;
  /** The hard state is part of that change. */
  private hardStateDirty = false;
  private lastToken = 0;
  /** Token of the last write that changed the hard state. */
  private hardStateToken = 0;
  private durableToken = 0;
  private kept: Kept[] = [];
  private scratch = new Uint8Array(0);
  private to = -1;
  /** The open message is kept; otherwise it goes straight out. */
  private keeping = false;
  /** The open message goes straight out as a sign of life. */
  private ahead = false;

  constructor(private readonly inner: Outbox) {}

  get bytes(): Uint8Array {
    return this.keeping ? this.scratch : this.inner.bytes;
  }

  get words(): DataView | undefined {
    return this.keeping ? undefined : this.inner.words;
  }

  /** True if all durable state is written, so that all messages so far have left. */
  get idle(): boolean {
    return !this.dirty && this.durableToken === this.lastToken;
  }

  /** The hard state is on the disk as it is, but for what nothing depends on. */
  get hardStateIsDurable(): boolean {
    return !this.hardStateDirty && this.hardStateToken <= this.durableToken;
  }

  /** What was done so far is durable with this token. */
  get awaited(): number {
    return this.dirty ? this.lastToken + 1 : this.lastToken;
  }

  /** Everything up to `token` is durable. */
  isDurable(token: number): boolean {
    return token <= this.durableToken;
  }

  /** The turn has something to write. */
  get wantsWrite(): boolean {
    return this.dirty || this.quiet;
  }

  /** The hard state is to be written, and no message has to wait for it: a write that comes later has it as well. */
  markQuiet(): void {
    this.quiet = true;
  }

  /** The log changed in this turn. */
  markLog(): void {
    this.dirty = true;
  }

  /** The hard state changed in this turn. */
  markHardState(): void {
    this.dirty = true;
    this.hardStateDirty = true;
  }

  /** Like `reserve`, for messages that depend on the hard state alone: they overtake messages that wait for the log. */
  reserveAhead(to: number, length: number): number {
    if (!this.hardStateIsDurable) return this.reserve(to, length);
    this.keeping = false;
    this.ahead = true;
    return this.inner.reserve(to, length);
  }

  reserve(to: number, length: number): number {
    this.ahead = false;
    this.keeping = !this.idle;
    if (!this.keeping) return this.inner.reserve(to, length);
    if (this.kept.length >= MAX_KEPT) return -1;
    if (this.scratch.length < length) this.scratch = new Uint8Array(Math.max(2048, length));
    this.to = to;
    return 0;
  }

  commit(length: number): void {
    if (!this.keeping) {
      // Also against a change of durable state between `reserve` and here.
      invariant(
        this.ahead ? this.hardStateIsDurable : this.idle,
        'a message leaves after everything that it depends on is durable',
      );
      this.inner.commit(length);
      return;
    }
    const token = this.awaited;
    invariant(token > this.durableToken, 'a message that is kept waits for a write that is not durable yet');
    this.kept.push({ token, to: this.to, message: this.scratch.slice(0, length) });
  }

  /** See Outbox. */
  speaks(replica: number): number {
    return this.inner.speaks?.(replica) ?? WIRE_VERSION;
  }

  /** The token of the write that ends this turn. One that no message waits for has the token of the write before it. */
  nextToken(): number {
    this.quiet = false;
    if (!this.dirty) return this.lastToken;
    this.dirty = false;
    this.lastToken++;
    if (this.hardStateDirty) this.hardStateToken = this.lastToken;
    this.hardStateDirty = false;
    return this.lastToken;
  }

  /** Everything up to `token` is durable: messages that waited for it leave. */
  persisted(token: number): void {
    invariant(token <= this.lastToken, 'the storage makes durable only what it was given');
    if (token <= this.durableToken) return;
    this.durableToken = token;
    let released = 0;
    while (released < this.kept.length && this.kept[released]!.token <= token) {
      const { to, message } = this.kept[released]!;
      const offset = this.inner.reserve(to, message.length);
      if (offset >= 0) {
        this.inner.bytes.set(message, offset);
        this.inner.commit(message.length);
      }
      released++;
    }
    this.kept.splice(0, released);
    invariant(
      this.kept.length === 0 || this.kept[0]!.token > this.durableToken,
      'messages leave in the order in which they were written, up to the first that still waits',
    );
  }
}
