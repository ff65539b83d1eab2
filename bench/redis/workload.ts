/** YCSB's core workloads A to F: which operation comes next, on which record. */
import type { Lane } from './database.js';
import { fine, fnv64, Latest, ScrambledZipfian } from './random-items.js';

export const FIELDS = 10;
export const FIELD_BYTES = 100;
const SCAN_RECORDS_MAX = 100;

type Kind = 'read' | 'update' | 'insert' | 'scan' | 'change';

interface Workload {
  readonly what: string;
  /** Shares of the operations. `change`: reads a record, then updates it. */
  readonly shares: Readonly<Partial<Record<Kind, number>>>;
  readonly items: 'zipfian' | 'latest';
}

/** As in YCSB's workloads/ folder. */
export const WORKLOADS = {
  A: { what: '50 % reads, 50 % updates; zipfian', shares: { read: 0.5, update: 0.5 }, items: 'zipfian' },
  B: { what: '95 % reads, 5 % updates; zipfian', shares: { read: 0.95, update: 0.05 }, items: 'zipfian' },
  C: { what: 'reads; zipfian', shares: { read: 1 }, items: 'zipfian' },
  D: { what: '95 % reads of the latest, 5 % inserts', shares: { read: 0.95, insert: 0.05 }, items: 'latest' },
  E: {
    what: `95 % scans of 1 to ${SCAN_RECORDS_MAX} records from a zipfian one, 5 % inserts`,
    shares: { scan: 0.95, insert: 0.05 },
    items: 'zipfian',
  },
  F: {
    what: '50 % reads, 50 % reads followed by an update of the same record; zipfian',
    shares: { read: 0.5, change: 0.5 },
    items: 'zipfian',
  },
} as const satisfies Readonly<Record<string, Workload>>;

export type WorkloadName = keyof typeof WORKLOADS;

/** In the order that YCSB recommends: those that insert come last. */
export const WORKLOAD_ORDER: readonly WorkloadName[] = ['A', 'B', 'C', 'F', 'D', 'E'];

/** The key of a record, hashed as in YCSB, so that keys are not in the order of insertion. */
export function keyOf(record: number): string {
  const { hi, lo } = fnv64(record);
  return `user${(BigInt(hi) << 32n) + BigInt(lo)}`;
}

/** The key of this number, as redis-benchmark writes it. */
export function benchmarkKey(number: number): string {
  return `key:${String(number).padStart(12, '0')}`;
}

/** Keys that were asked for before: making one takes longer than the rest of an operation. */
class Keys {
  private readonly known: string[] = [];

  of(record: number): string {
    return (this.known[record] ??= keyOf(record));
  }
}

const TEXT_BYTES = 1 << 16;

/** Fields of printable characters, cut out of one random text. */
export class Fields {
  private readonly text = Buffer.alloc(TEXT_BYTES);

  constructor(private readonly random: () => number) {
    for (let i = 0; i < TEXT_BYTES; i++) this.text[i] = 0x20 + Math.floor(random() * 95);
  }

  next(): Buffer[] {
    return Array.from({ length: FIELDS }, () => {
      const at = Math.floor(this.random() * (TEXT_BYTES - FIELD_BYTES));
      return this.text.subarray(at, at + FIELD_BYTES);
    });
  }
}

/** Counts records that are there: all up to it are, whatever order the inserts are answered in. */
class Inserted {
  private readonly early = new Set<number>();
  private begun: number;

  constructor(public count: number) {
    this.begun = count;
  }

  begin(): number {
    return this.begun++;
  }

  done(record: number): void {
    this.early.add(record);
    while (this.early.delete(this.count)) this.count++;
  }
}

export class Core {
  private readonly keys = new Keys();
  private readonly fields: Fields;
  private readonly inserted: Inserted;
  private readonly nextRecord: () => number;
  private readonly kinds: readonly (readonly [Kind, number])[];

  /** @param records that are there */
  constructor(
    name: WorkloadName,
    records: number,
    private readonly random: () => number,
  ) {
    const { shares, items }: Workload = WORKLOADS[name];
    let sum = 0;
    this.kinds = Object.entries(shares).map(([kind, share]) => [kind as Kind, (sum += share)] as const);
    this.fields = new Fields(random);
    this.inserted = new Inserted(records);
    const latest = new Latest(fine(random), records);
    const zipfian = new ScrambledZipfian(fine(random), records);
    this.nextRecord = items === 'latest' ? () => latest.next(this.inserted.count) : () => zipfian.next();
  }

  /** Records that are there now. */
  get records(): number {
    return this.inserted.count;
  }

  nextKind(): Kind {
    const share = this.random();
    return (this.kinds.find(([, end]) => share < end) ?? this.kinds.at(-1)!)[0];
  }

  async run(lane: Lane): Promise<unknown> {
    const { keys, fields, inserted, random } = this;
    const kind = this.nextKind();
    if (kind === 'insert') {
      const record = inserted.begin();
      await lane.insert(keys.of(record), fields.next());
      inserted.done(record);
      return undefined;
    }
    const key = keys.of(this.nextRecord());
    switch (kind) {
      case 'read':
        return lane.read(key);
      case 'scan':
        return lane.scan(key, 1 + Math.floor(random() * SCAN_RECORDS_MAX));
      case 'update':
        return lane.update(key, Math.floor(random() * FIELDS), fields.next());
      case 'change':
        await lane.read(key);
        return lane.update(key, Math.floor(random() * FIELDS), fields.next());
    }
  }
}
