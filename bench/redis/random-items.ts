/**
 * Which item comes next: the distributions of YCSB's core workloads. Gray, Sundaresan, Englert, Baclawski, Weinberger,
 * "Quickly Generating Billion-Record Synthetic Databases" (SIGMOD 1994) has the zipfian one; YCSB's ZipfianGenerator,
 * ScrambledZipfianGenerator and SkewedLatestGenerator have its constants and the other two.
 */

/** YCSB's constant. */
export const ZIPFIAN_THETA = 0.99;
/** YCSB draws a scrambled item out of so many, and knows their zeta, which takes minutes to sum up. */
const SCRAMBLED_ITEMS = 10_000_000_000;
const SCRAMBLED_ZETA = 26.46902820178302;
/** Larger ones would make products below inexact. */
export const ITEMS_MAX = 1_000_000;

/** Numbers in [0, 1) with 53 bits, of a generator whose numbers have 32. */
export function fine(random: () => number): () => number {
  return () => (Math.floor(random() * 2 ** 27) * 2 ** 26 + Math.floor(random() * 2 ** 26)) / 2 ** 53;
}

/** 0 is the most frequent item; the probability of item i is proportional to 1 ÷ (i + 1)^0.99. */
export class Zipfian {
  private zeta: number;
  private eta: number;

  /** @param random numbers in [0, 1) @param zeta the sum of the 1 ÷ (i + 1)^0.99 of all items, if it is known */
  constructor(
    private readonly random: () => number,
    private items: number,
    zeta?: number,
  ) {
    this.zeta = zeta ?? sumOf(0, items);
    this.eta = etaOf(items, this.zeta);
  }

  next(): number {
    const u = this.random();
    const share = u * this.zeta;
    if (share < 1) return 0;
    if (share < 1 + 0.5 ** ZIPFIAN_THETA) return 1;
    const item = Math.floor(this.items * (this.eta * u - this.eta + 1) ** (1 / (1 - ZIPFIAN_THETA)));
    return Math.min(item, this.items - 1);
  }

  /** From now on there are more items. */
  grow(items: number): void {
    if (items <= this.items) return;
    this.zeta += sumOf(this.items, items);
    this.items = items;
    this.eta = etaOf(items, this.zeta);
  }
}

function sumOf(from: number, to: number): number {
  let sum = 0;
  for (let i = from; i < to; i++) sum += 1 / (i + 1) ** ZIPFIAN_THETA;
  return sum;
}

function etaOf(items: number, zeta: number): number {
  return (1 - (2 / items) ** (1 - ZIPFIAN_THETA)) / (1 - sumOf(0, 2) / zeta);
}

/** Zipfian, with the frequent items scattered among all. */
export class ScrambledZipfian {
  private readonly zipfian: Zipfian;

  constructor(
    random: () => number,
    private readonly items: number,
  ) {
    this.zipfian = new Zipfian(random, SCRAMBLED_ITEMS, SCRAMBLED_ZETA);
  }

  next(): number {
    const { hi, lo } = fnv64(this.zipfian.next());
    return ((hi % this.items) * (2 ** 32 % this.items) + lo) % this.items;
  }
}

/** The item that was added last is the most frequent one. */
export class Latest {
  private readonly zipfian: Zipfian;

  constructor(random: () => number, items: number) {
    this.zipfian = new Zipfian(random, items);
  }

  /** @param items that are there now */
  next(items: number): number {
    this.zipfian.grow(items);
    return Math.max(0, items - 1 - this.zipfian.next());
  }
}

/**
 * YCSB's hash of a number: FNV-1a of its eight bytes, the lowest first, and the absolute value of the result as a signed
 * 64-bit number, in halves.
 */
export function fnv64(value: number): { readonly hi: number; readonly lo: number } {
  let hi = 0xcbf29ce4;
  let lo = 0x84222325;
  let [low, high] = [value % 2 ** 32, Math.floor(value / 2 ** 32)];
  for (let i = 0; i < 8; i++) {
    lo = (lo ^ (low & 0xff)) >>> 0;
    low = ((low >>> 8) | (high << 24)) >>> 0;
    high >>>= 8;
    // The prime is 2^40 + 435.
    const product = lo * 435;
    hi = (Math.imul(hi, 435) + Math.floor(product / 2 ** 32) + (lo << 8)) >>> 0;
    lo = product % 2 ** 32;
  }
  if (hi < 2 ** 31) return { hi, lo };
  return lo === 0 ? { hi: -hi >>> 0, lo } : { hi: ~hi >>> 0, lo: -lo >>> 0 };
}
