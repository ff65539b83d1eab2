// The client's lead: when it rises, how far, and when it is given up.
import t from 'tap';
import { Instant } from '../../src/protocol/contract.js';
import { LeadControl } from '../../src/protocol/client/lead.js';

const ROUND_TRIP_US = 100;
const SENT_US = Float64Array.of(0);
const ANSWERED = Object.assign(new Instant(), { monotonicUs: ROUND_TRIP_US });

/** A window of 64 requests, so many of them missed. */
function window(lead: LeadControl, misses: number, delayUs = 40): void {
  for (let i = 0; i < 64; i++) {
    lead.heard(1, delayUs - lead.leadNs / 1000);
    ANSWERED.monotonicUs += ROUND_TRIP_US;
    SENT_US[0] = ANSWERED.monotonicUs - ROUND_TRIP_US;
    if (i < misses) lead.missed();
    else lead.committedFast(SENT_US, 0, ANSWERED);
  }
}

function windows(lead: LeadControl, count: number, misses: (lead: LeadControl) => number, delayUs?: number): void {
  for (let i = 0; i < count; i++) window(lead, misses(lead), delayUs);
}

t.test('zero as long as hardly anything misses; then the delay of the slowest member', (t) => {
  const lead = new LeadControl(0, 250_000, 3);
  windows(lead, 20, () => 1);
  t.equal(lead.leadNs, 0);
  window(lead, 20);
  t.ok(lead.leadNs > 30_000 && lead.leadNs < 50_000, `${lead.leadNs} ns`);
  t.end();
});

t.test('never more than a round trip, nor than maxLeadNs', (t) => {
  const lead = new LeadControl(0, 250_000, 3);
  windows(lead, 4, () => 20, 5000);
  t.ok(lead.leadNs > 50_000 && lead.leadNs <= ROUND_TRIP_US * 1000, `${lead.leadNs} ns`);
  const bounded = new LeadControl(0, 30_000, 3);
  windows(bounded, 4, () => 20, 5000);
  t.equal(bounded.leadNs, 30_000);
  const off = new LeadControl(0, 0, 3);
  windows(off, 4, () => 20);
  t.equal(off.leadNs, 0, 'maxLeadNs 0 keeps it off');
  t.end();
});

t.test('a lead that halves the misses stays; one that does not is given up, for longer each time', (t) => {
  const useful = new LeadControl(0, 250_000, 3);
  windows(useful, 200, ({ leadNs }) => (leadNs > 20_000 ? 6 : 20));
  t.ok(useful.leadNs > 20_000, 'a third of the misses is left');
  const useless = new LeadControl(0, 250_000, 3);
  const on: number[] = [];
  let led = 0;
  for (let i = 0; i < 400; i++) {
    window(useless, 20);
    if (useless.leadNs > 0) led++;
    else if (led > 0) {
      on.push(i);
      led = 0;
    }
  }
  const gaps = on.slice(1).map((end, i) => end - on[i]!);
  t.ok(gaps.length >= 2, `given up at windows ${on.join(', ')}`);
  for (let i = 1; i < gaps.length; i++) t.ok(gaps[i]! > 1.5 * gaps[i - 1]!, `pauses ${gaps.join(', ')}`);
  t.end();
});

t.test('it grows while misses remain, up to a round trip', (t) => {
  const lead = new LeadControl(0, 250_000, 3);
  windows(lead, 2, () => 20, 30);
  const first = lead.leadNs;
  windows(lead, 10, ({ leadNs }) => (leadNs > 70_000 ? 0 : 20), 30);
  t.ok(
    first < 50_000 && lead.leadNs > 70_000 && lead.leadNs <= ROUND_TRIP_US * 1000,
    `${first} ns, then ${lead.leadNs} ns`,
  );
  t.end();
});

t.test('a burst that makes everything miss does not end a lead that paid off', (t) => {
  const lead = new LeadControl(0, 250_000, 3);
  windows(lead, 40, ({ leadNs }) => (leadNs > 20_000 ? 0 : 64));
  t.ok(lead.leadNs > 0);
  windows(lead, 18, () => 60);
  t.ok(lead.leadNs > 0, 'one trial failed');
  windows(lead, 20, () => 60);
  t.equal(lead.leadNs, 0, 'two did');
  t.end();
});

t.test('it decays when things are quiet', (t) => {
  const lead = new LeadControl(0, 250_000, 3);
  window(lead, 20);
  t.ok(lead.leadNs > 0);
  windows(lead, 200, () => 0);
  t.equal(lead.leadNs, 0);
  t.end();
});
