// A rare event, such as a view change, must not change the hidden classes of the objects that every message uses: V8 would
// throw away all code that it has compiled for them, in the very moment in which nothing commits. That happens when a field
// that held small integers gets a double, which is what numbers from a Float64Array or a product are in code that is not
// compiled. See `readIndex` and `smallInteger` (wire/u64.ts) and DOUBLE_ZERO (protocol/double-zero.ts).
import { setFlagsFromString } from 'node:v8';
import t from 'tap';
import { indexAt, readIndex, smallInteger, writeIndex } from '../../src/wire/u64.js';
import { Changing } from './changing.js';
import { Distant } from './distant.js';

setFlagsFromString('--allow-natives-syntax');
const haveSameMap = new Function('a', 'b', 'return %HaveSameMap(a, b)') as (a: object, b: object) => boolean;

/** A field that held a small integer takes this number without a change of the hidden class. */
function isSmall(value: number): boolean {
  class Holder {
    field = 0;
  }
  const holder = new Holder();
  holder.field = value;
  return haveSameMap(holder, new Holder());
}

/** The harness gives its disk another method; the window of a snapshot's pieces is used in transfers alone. */
const EXEMPT = new Set(['storage', 'pieces']);

/** The paths of objects below `a` whose hidden class is not that of the same object below `b`, which was never used. */
function changed(a: unknown, b: unknown, path: string, seen = new Set<unknown>()): string[] {
  if (typeof a !== 'object' || a === null || typeof b !== 'object' || b === null || seen.has(a)) return [];
  seen.add(a);
  const prototype = Object.getPrototypeOf(a) as unknown;
  const isTable = Array.isArray(a) || a instanceof Map || a instanceof Set || ArrayBuffer.isView(a);
  if (prototype !== Object.getPrototypeOf(b) || isTable) return [];
  // Objects without a class are data that is replaced, such as a membership.
  const own = prototype === Object.prototype || haveSameMap(a, b) ? [] : [path];
  const [left, right] = [a as Record<string, unknown>, b as Record<string, unknown>];
  return [
    ...own,
    ...Object.keys(a)
      .filter((key) => !EXEMPT.has(key))
      .flatMap((key) => changed(left[key], right[key], `${path}.${key}`, seen)),
  ];
}

t.test('an index from a message is a small integer, in code that is not compiled as well', (t) => {
  const bytes = new Uint8Array(8);
  const words = new DataView(bytes.buffer);
  for (const index of [0, 1, 2 ** 31 - 1, 2 ** 31, 2 ** 32 - 1, 2 ** 32, 2 ** 32 + 5, 2 ** 53 - 1]) {
    writeIndex(bytes, 0, index);
    t.equal(readIndex(bytes, 0), index);
    t.equal(indexAt(words, 0), index);
    t.equal(smallInteger(index), index);
    if (index >= 2 ** 31) continue;
    t.ok(isSmall(readIndex(bytes, 0)), `${index} is small`);
    t.ok(isSmall(indexAt(words, 0)), `${index} is small`);
    t.ok(isSmall(smallInteger(Float64Array.of(index)[0]!)), `${index} is small`);
  }
  for (const other of [0.5, -1.5, Infinity, -Infinity]) t.equal(smallInteger(other), other);
  t.ok(Number.isNaN(smallInteger(NaN)));
  t.end();
});

t.test('nothing that a cluster goes through changes the hidden class of what its messages use', (t) => {
  const unused = new Changing(3, false, 'unnamed').replica(0).core;
  const unusedClient = new Distant(3, false).client(4, {}, {}, true).core;
  const c = new Distant(3, false);
  const look = (when: string): void => {
    for (const { id, core } of c.replicas) t.same(changed(core, unused, 'core'), [], `${when}: replica ${id}`);
    t.same(changed(c.loader.core, unusedClient, 'client'), [], `${when}: the client`);
  };
  c.slow(500, 4_000);
  c.load();
  c.run(500_000);
  look('under load');
  const joined = [c.join(), c.join()];
  c.run(300_000);
  look('hosts joined, and have the state');
  for (const part of ['member', 'primary'] as const) {
    const { primary } = c.replica(c.quorum()[0]!).state;
    const leaves = part === 'primary' ? primary : c.quorum().find((slot) => slot !== primary)!;
    const ids = c.newest.hosts
      .filter(({ id, slot }) => slot !== leaves && (c.newest.voters.includes(id) || slot === joined[0]))
      .map(({ id }) => id);
    joined.shift();
    const from = c.newest.started;
    c.ask({ kind: 'change', from, to: from + 1, ids });
    t.ok(
      c.until(1_000_000, () => c.newest.started > from),
      `a ${part} is replaced`,
    );
    c.run(200_000);
    look(`a ${part} was replaced`);
  }
  t.end();
});
