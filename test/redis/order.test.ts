/**
 * Random pipelines of many connections, while operations overtake each other, leave commands over, fail before they are
 * executed and after: every connection sees its own commands in its own order, and each at most once.
 */
import t from 'tap';
import { JitPaxosError } from '../../src/errors.js';
import { seededRandom } from '../../src/measure/load/random.js';
import { command, startFront, Wire } from './stand-in.js';

const CONNECTIONS = 12;
const ROUNDS = 30;
const seed = Number(process.env['JITPAXOS_TEST_SEED'] ?? Math.floor(Math.random() * 2 ** 31));

/** What a connection expects next: the possible values of its counter. */
interface Own {
  low: number;
  high: number;
}

type Expected = 'incr' | 'get' | 'ping' | 'exec' | 'queued' | 'ok';

/** Random commands on one key, and the kinds of their replies. */
function pipeline(
  random: () => number,
  key: string,
): { readonly text: string; readonly expected: readonly Expected[] } {
  let text = '';
  const expected: Expected[] = [];
  for (let left = 1 + Math.floor(random() * 40); left > 0; left--) {
    const chance = random();
    if (chance < 0.45) {
      text += command('INCR', key);
      expected.push('incr');
    } else if (chance < 0.8) {
      text += command('GET', key);
      expected.push('get');
    } else if (chance < 0.9) {
      text += 'PING\r\n';
      expected.push('ping');
    } else {
      text += command('MULTI') + command('INCR', key) + command('GET', key) + command('EXEC');
      expected.push('ok', 'queued', 'queued', 'exec');
    }
  }
  return { text, expected };
}

/** One reply of these kinds: a line, and what belongs to it. */
async function reply(wire: Wire): Promise<string> {
  const line = async (): Promise<string> => {
    let text = '';
    while (!text.endsWith('\n')) {
      const next = await wire.read(1);
      if (next === '') throw new Error('the connection ended');
      text += next;
    }
    return text.slice(0, -2);
  };
  const first = await line();
  if (first.startsWith('$') && first !== '$-1') return `$${await line()}`;
  if (first === '*2') return `*${await line()} ${await reply(wire)}`;
  return first;
}

/** What is wrong with a reply; undefined: nothing. */
function judge(own: Own, kind: Expected, text: string): string | undefined {
  const isUnsure = text.startsWith('-INDOUBT');
  const isRefused = text.startsWith('-TRYAGAIN');
  const sees = (value: number, from: number, to: number): string | undefined => {
    own.low = own.high = value;
    return value >= from && value <= to ? undefined : `${value}, not ${from} to ${to}`;
  };
  switch (kind) {
    case 'ping':
      return text === '+PONG' ? undefined : text;
    case 'ok':
      return text === '+OK' ? undefined : text;
    case 'queued':
      return text === '+QUEUED' ? undefined : text;
    case 'get':
      if (isUnsure || isRefused) return undefined;
      return sees(text === '$-1' ? 0 : Number(text.slice(1)), own.low, own.high);
    case 'incr':
    case 'exec': {
      if (isRefused) return undefined;
      if (isUnsure) {
        own.high++;
        return undefined;
      }
      const match = kind === 'incr' ? /^:(\d+)$/.exec(text) : /^\*:(\d+) \$(\d+)$/.exec(text);
      if (match === null || (match[2] !== undefined && match[2] !== match[1])) return text;
      return sees(Number(match[1]), own.low + 1, own.high + 1);
    }
  }
}

t.test(`random pipelines; replay with JITPAXOS_TEST_SEED=${seed}`, async (t) => {
  const random = seededRandom(seed);
  for (const trouble of [0, 0.05]) {
    const front = await startFront({ lanes: 3, batchBytes: 600, roomBytes: 1_024 });
    const pause = async (): Promise<void> => {
      for (let turns = Math.floor(random() ** 2 * 12); turns > 0; turns--) await new Promise(setImmediate);
    };
    front.store.before = async () => {
      await pause();
      front.store.most = 1 + Math.floor(random() * 30);
      if (random() < trouble) throw new JitPaxosError('operation-refused', 'x');
    };
    front.store.after = async () => {
      await pause();
      if (random() < trouble) throw new JitPaxosError('outcome-unknown', 'x');
    };
    await Promise.all(
      Array.from({ length: CONNECTIONS }, async (_, i) => {
        const wire = await Wire.open(front.listener.port);
        const own: Own = { low: 0, high: 0 };
        for (let round = 0; round < ROUNDS; round++) {
          const { text, expected } = pipeline(random, `n${i}`);
          const cut = Math.floor(random() * text.length);
          wire.send(text.slice(0, cut));
          if (random() < 0.5) await pause();
          wire.send(text.slice(cut));
          for (const kind of expected) {
            const wrong = judge(own, kind, await reply(wire));
            if (wrong !== undefined) t.fail(`connection ${i}, round ${round}, ${kind}: ${wrong}`);
          }
        }
        wire.close();
      }),
    );
    const { counters } = front.front;
    t.ok(counters.continued > 0, `${counters.continued} operations were continued`);
    t.equal(counters.inDoubt > 0 && counters.tryAgain > 0, trouble > 0);
    t.same(front.bugs, []);
    await front.close();
  }
});
