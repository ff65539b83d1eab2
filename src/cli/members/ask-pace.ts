/**
 * How often a process that waits to be added asks the hosts of its cluster file who the members are.
 *
 * A round ends when all have answered, or after its time: a dead host must not make those wait that know the news. So the
 * time is short, but several times as long as an answer took, and longer if nobody answered: an answer that comes after
 * its round does not count.
 */
const ROUND_MS = 100;
const ROUND_MS_MAX = 2_000;
/** A round lasts this many times as long as the quickest answer took. */
const TRIPS = 4;

export class AskPace {
  /** The time of the next round, and of the pause behind one in which all answered; ms. */
  roundMs = ROUND_MS;

  /** A round is over. @param answers with the time that each took, undefined for one that did not come */
  heard(answers: readonly { readonly roundTripUs: number | undefined }[]): void {
    const trips = answers.flatMap(({ roundTripUs }) => (roundTripUs === undefined ? [] : [roundTripUs]));
    const wantedMs = trips.length === 0 ? 2 * this.roundMs : (TRIPS * Math.min(...trips)) / 1000;
    this.roundMs = Math.ceil(Math.min(ROUND_MS_MAX, Math.max(ROUND_MS, wantedMs)));
  }
}
