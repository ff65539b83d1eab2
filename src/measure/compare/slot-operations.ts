/**
 * Precomputed operations for clients of the slot interface: choosing one allocates nothing and costs almost nothing, so
 * that the load tool does not dominate the measurement. If operations must differ, as for a history, see
 * load/operations.ts.
 */
import { encodeGet, encodePut } from '../../machine/kv-codec.js';

const KV_KEYS = 1024;
export const KV_KEY_BYTES = 16;

export function keyOf(number: number): Uint8Array {
  return Buffer.from(`key-${String(number).padStart(KV_KEY_BYTES - 4, '0')}`, 'latin1');
}

export class SlotOperations {
  private readonly table: Uint8Array[];
  private readonly state: Int32Array;

  /** @param bytes size of an echoed operation, or of a value */
  constructor(machine: 'echo' | 'kv', operation: 'read' | 'write', bytes: number, seed: number) {
    if (machine === 'echo') this.table = [new Uint8Array(bytes).fill(0x2e)];
    else {
      const value = new Uint8Array(bytes).fill(0x2e);
      const scratch = new Uint8Array(bytes + KV_KEY_BYTES + 16);
      this.table = Array.from({ length: KV_KEYS }, (_, number) => {
        const length =
          operation === 'read' ? encodeGet(scratch, 0, keyOf(number)) : encodePut(scratch, 0, keyOf(number), value);
        return scratch.slice(0, length);
      });
    }
    this.state = Int32Array.of(seed | 1);
  }

  /** The next operation; for the store, on a random key (xorshift). */
  next(): Uint8Array {
    const { table, state } = this;
    if (table.length === 1) return table[0]!;
    let x = state[0]!;
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    state[0] = x;
    return table[x & (KV_KEYS - 1)]!;
  }
}
