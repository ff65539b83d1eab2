/** What one connection has subscribed to. subscriptions.ts keeps it. */

export type SubscriptionKind = 'channel' | 'pattern';

/** By name, a byte a character: the revision that the store had when it began. */
export class OwnSubscriptions {
  readonly channels = new Map<string, number>();
  readonly patterns = new Map<string, number>();

  get count(): number {
    return this.channels.size + this.patterns.size;
  }

  of(kind: SubscriptionKind): Map<string, number> {
    return kind === 'channel' ? this.channels : this.patterns;
  }
}
