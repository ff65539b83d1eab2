// How fast a snapshot in pieces is taken: by time while the log has room, by the log's fill where it has not.
import t from 'tap';
import type { Execution } from '../../src/protocol/log/execution.js';
import type { Log } from '../../src/protocol/log/log.js';
import { LAST_FILL } from '../../src/protocol/replica/log-capacity.js';
import { SnapshotPace } from '../../src/protocol/replica/snapshot-pace.js';

const EVERY_US = 1000;
const PIECE = 100;

/** A snapshot of that many bytes, and a log as full as it is told. */
class Rig {
  fill = 0.1;
  nowUs = 0;
  index = 7;
  /** Lengths that were asked for, and how many bytes were given, of each piece. */
  readonly asked: number[] = [];
  private readonly pace: SnapshotPace;

  /** @param given bytes that a piece has; a machine may give more or fewer than it is asked for */
  constructor(
    private left: number,
    private readonly given = PIECE,
  ) {
    const unfinished = Object.defineProperties(
      {},
      {
        index: { get: () => (this.left === 0 ? -1 : this.index) },
        isUnderway: { get: () => this.left > 0 },
        left: { get: () => this.left },
      },
    );
    const execution = {
      pieceBytes: PIECE,
      unfinished,
      continueSnapshot: (maxBytes: number): void => {
        this.asked.push(maxBytes);
        this.left -= Math.min(this.left, this.given);
      },
    };
    // What it uses of them.
    const log = { fill: () => this.fill };
    this.pace = new SnapshotPace(log as unknown as Log, execution as unknown as Execution, EVERY_US);
  }

  /** Ends a turn after that time. Returns how many pieces it took. */
  turn(afterUs: number): number {
    this.nowUs += afterUs;
    const before = this.asked.length;
    const whole = this.pace.take({ monotonicUs: this.nowUs, clockHi: 0, clockLo: 0 } as never);
    if (whole !== (this.left === 0 && this.asked.length > before))
      throw new Error('it says when the snapshot is whole');
    return this.asked.length - before;
  }

  begin(bytes: number): void {
    this.index++;
    this.left = bytes;
  }

  get missing(): number {
    return this.left;
  }

  get wakesAtUs(): number {
    const out = Float64Array.of(Infinity);
    this.pace.wakeBefore(out);
    return out[0]!;
  }
}

t.test('with room in the log it takes a piece each time, and wakes for the next', (t) => {
  const rig = new Rig(10 * PIECE);
  t.equal(rig.turn(5), 1, 'the first one at once');
  t.equal(rig.wakesAtUs, 5 + EVERY_US);
  for (let i = 0; i < 9; i++) t.equal(rig.turn(100), 0, 'not before it is time');
  t.equal(rig.turn(100), 1);
  t.equal(rig.turn(50 * EVERY_US), 1, 'what was missed is not made up for');
  for (let i = 0; i < 7; i++) t.equal(rig.turn(EVERY_US), 1);
  t.equal(rig.missing, 0);
  t.equal(rig.wakesAtUs, Infinity, 'nothing is to be done');
  t.equal(rig.turn(EVERY_US), 0);
  t.ok(
    rig.asked.every((bytes) => bytes === PIECE),
    'all pieces are of one length',
  );
  t.end();
});

t.test('the next snapshot begins at once, whenever the last piece was taken', (t) => {
  const rig = new Rig(PIECE);
  t.equal(rig.turn(0), 1);
  rig.begin(3 * PIECE);
  t.equal(rig.turn(1), 1);
  t.equal(rig.turn(1), 0);
  t.end();
});

t.test('where the log fills, pieces follow it: a quarter is missing when half of its room is left', (t) => {
  for (const from of [0, 0.3, 0.6]) {
    const rig = new Rig(40_000 * PIECE);
    rig.fill = from;
    rig.turn(0);
    const room = LAST_FILL - from;
    // Turns follow each other so fast that no piece is due by time.
    for (let step = 1; step <= 200; step++) {
      rig.fill = from + (room / 2) * (step / 200);
      rig.turn(1);
    }
    const missing = rig.missing / (40_000 * PIECE);
    t.ok(Math.abs(missing - 0.25) < 0.02, `from ${from}: ${missing.toFixed(3)} is missing at half of the room`);
    for (let step = 1; step < 200; step++) {
      rig.fill = from + room / 2 + (room / 2) * (step / 200);
      rig.turn(1);
    }
    t.ok(rig.missing / (40_000 * PIECE) < 0.01, `${rig.missing} bytes are missing just before the last fill`);
    rig.fill = LAST_FILL;
    rig.turn(1);
    t.equal(rig.missing, 0, 'and then it is whole');
  }
  t.end();
});

t.test('a log that was cut starts the count of its room anew', (t) => {
  const rig = new Rig(1000 * PIECE);
  rig.fill = 0.8;
  rig.turn(0);
  rig.fill = 0.2;
  t.equal(rig.turn(1), 0, 'it is not behind');
  rig.fill = 0.21;
  const pieces = rig.turn(1);
  t.ok(pieces > 10 && pieces < 60, `${pieces} of 999 pieces for a seventieth of the room`);
  t.end();
});

t.test(
  'a machine that gives more than it is asked for is not asked as often; one that gives nothing ends a turn as well',
  (t) => {
    const generous = new Rig(1000 * PIECE, 10 * PIECE);
    generous.fill = 0.5;
    generous.turn(0);
    generous.fill = 0.7;
    t.ok(generous.turn(1) <= 100);
    t.equal(generous.missing, 0);
    const empty = new Rig(1000 * PIECE, 0);
    empty.fill = 0.5;
    t.equal(empty.turn(0), 1);
    empty.fill = LAST_FILL;
    t.equal(empty.turn(1), 1000, 'as many calls as would do for whole pieces');
    t.equal(empty.missing, 1000 * PIECE);
    t.end();
  },
);
