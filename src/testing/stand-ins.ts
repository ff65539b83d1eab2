/**
 * Clock and chance as seen from the user's code in a simulation. A machine must use neither. One that does gets another
 * time and other numbers on every replica, drawn from the seed, so that it is found at once and the run can be repeated.
 *
 * What is replaced: `Date`, `performance.now`, `process.hrtime`, `Math.random`, `crypto.randomUUID` and
 * `crypto.getRandomValues`, between `install` and `remove`. Outside of `during` they are the real ones.
 */
import type { Random } from '../sim/random.js';

/** Some moment in 2030, ms: far from the present, so that it stands out. */
const EPOCH_MS = 1_900_000_000_000;
/** Two replicas' clocks differ by at most this, ms. */
const APART_MS = 10_000_000;

export class StandIns {
  /** What the user's code called, such as `Math.random`. */
  readonly used = new Set<string>();
  private chance: Random | undefined;
  private readonly removals: (() => void)[] = [];

  install(): void {
    const real = { Date, random: Math.random, now: performance.now.bind(performance), hrtime: process.hrtime };
    this.replace(
      globalThis,
      'Date',
      new Proxy(real.Date, {
        construct: (target, args, newTarget) =>
          Reflect.construct(target, args.length > 0 || !this.reads('new Date()') ? args : [this.nowMs()], newTarget),
        apply: (target, self, args) =>
          this.reads('Date()') ? new real.Date(this.nowMs()).toString() : Reflect.apply(target, self, args),
        get: (target, name, receiver) =>
          name === 'now' && this.reads('Date.now') ? () => this.nowMs() : Reflect.get(target, name, receiver),
      }),
    );
    this.replace(Math, 'random', () => (this.reads('Math.random') ? this.chance!.unit() : real.random()));
    this.replace(performance, 'now', () => (this.reads('performance.now') ? this.nowMs() : real.now()));
    const hrtime = (before?: [number, number]): [number, number] => {
      if (!this.reads('process.hrtime')) return real.hrtime(before);
      const ms = this.nowMs() - (before === undefined ? 0 : before[0] * 1000 + before[1] / 1e6);
      return [Math.floor(ms / 1000), (ms % 1000) * 1e6];
    };
    const bigint = (): bigint =>
      this.reads('process.hrtime') ? BigInt(this.nowMs()) * 1_000_000n : real.hrtime.bigint();
    this.replace(process, 'hrtime', Object.assign(hrtime, { bigint }));
    this.replaceCrypto();
  }

  remove(): void {
    for (const remove of this.removals.splice(0).reverse()) remove();
  }

  /** Calls the user's code, which gets its time and chance from `chance`. */
  during<T>(chance: Random, call: () => T): T {
    const before = this.chance;
    this.chance = chance;
    try {
      return call();
    } finally {
      this.chance = before;
    }
  }

  private replaceCrypto(): void {
    // Absent in Node 20 where it was switched off.
    const real = globalThis.crypto;
    if (real === undefined) return;
    const uuid = real.randomUUID.bind(real);
    const values = real.getRandomValues.bind(real);
    this.replace(real, 'randomUUID', () => {
      if (!this.reads('crypto.randomUUID')) return uuid();
      const hex = Array.from({ length: 4 }, () => (this.chance!.next() >>> 0).toString(16).padStart(8, '0')).join('');
      return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-4${hex.slice(13, 16)}-8${hex.slice(17, 20)}-${hex.slice(20)}`;
    });
    this.replace(real, 'getRandomValues', (array: NodeJS.TypedArray) => {
      if (!this.reads('crypto.getRandomValues')) return values(array as Uint8Array<ArrayBuffer>);
      const bytes = new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
      for (let i = 0; i < bytes.length; i++) bytes[i] = this.chance!.below(256);
      return array;
    });
  }

  /** True in the user's code, which is then known to have called `what`. */
  private reads(what: string): boolean {
    if (this.chance === undefined) return false;
    this.used.add(what);
    return true;
  }

  private nowMs(): number {
    return EPOCH_MS + this.chance!.below(APART_MS);
  }

  private replace(object: object, name: string, value: unknown): void {
    const before = Object.getOwnPropertyDescriptor(object, name);
    Object.defineProperty(object, name, {
      value,
      configurable: true,
      writable: true,
      enumerable: before?.enumerable ?? false,
    });
    this.removals.push(() => {
      if (before === undefined) Reflect.deleteProperty(object, name);
      else Object.defineProperty(object, name, before);
    });
  }
}
