// A slot's payload is what was put last, whatever was longer or shorter before, and the neighbours' stay as they are.
import t from 'tap';
import { Payloads } from '../../src/protocol/log/payloads.js';
import { wordsOf } from '../../src/wire/copy.js';

const SHORT = 16;

t.test('short and long payloads take turns in a slot', (t) => {
  const payloads = new Payloads(3, SHORT);
  t.equal(payloads.length(1), 0);
  t.equal(payloads.bytes(1).length, SHORT, 'there is room before anything was put');
  const expected = [new Uint8Array(0), new Uint8Array(0), new Uint8Array(0)];
  for (const [turn, length] of [1, SHORT, SHORT + 1, 0, 200, 33, 3000, SHORT, 7].entries()) {
    for (let slot = 0; slot < 3; slot++) {
      const source = Uint8Array.from({ length: length + 5 }, (_, i) => i * 7 + turn * 31 + slot);
      payloads.put(slot, wordsOf(source), 5, length);
      expected[slot] = source.slice(5);
      for (let other = 0; other < 3; other++) {
        const bytes = expected[other]!;
        t.equal(payloads.length(other), bytes.length);
        t.strictSame([...payloads.bytes(other).subarray(0, bytes.length)], [...bytes]);
        const view = payloads.words(other);
        t.strictSame(
          [...new Uint8Array(view.buffer, view.byteOffset + payloads.offset(other), bytes.length)],
          [...bytes],
        );
      }
    }
  }
  t.end();
});
