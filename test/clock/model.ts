/** `struct model` of test/native/fake-ptp.c: what the stand-in's clock does, written while it runs. */
import { closeSync, constants, openSync, writeSync } from 'node:fs';
import { endianness } from 'node:os';

const FIELDS = [
  'offsetNs',
  'driftPpb',
  'driftFromRawNs',
  'noiseNs',
  'bracketNs',
  'gone',
  'lacks',
  'busy',
  'denied',
  'busyGettime',
  'fixed',
  'busyUntilRawNs',
  'hostAheadNs',
] as const;

export type ModelFields = Readonly<Record<(typeof FIELDS)[number], bigint>>;

/** Bits of `lacks`. */
export const Lacks = { precise: 1n, extended: 2n, offset: 4n } as const;

export class Model {
  private readonly fields: Record<(typeof FIELDS)[number], bigint> = Object.fromEntries(
    FIELDS.map((name) => [name, 0n]),
  ) as Record<(typeof FIELDS)[number], bigint>;

  constructor(
    readonly path: string,
    fields: Partial<ModelFields> = {},
  ) {
    this.set(fields);
  }

  set(fields: Partial<ModelFields>): void {
    Object.assign(this.fields, fields);
    const bytes = Buffer.alloc(8 * FIELDS.length);
    FIELDS.forEach((name, index) =>
      endianness() === 'LE'
        ? bytes.writeBigInt64LE(this.fields[name], 8 * index)
        : bytes.writeBigInt64BE(this.fields[name], 8 * index),
    );
    // In place and in one write: readers map the file.
    const fd = openSync(this.path, constants.O_RDWR | constants.O_CREAT);
    writeSync(fd, bytes, 0, bytes.length, 0);
    closeSync(fd);
  }
}
