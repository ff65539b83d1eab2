/**
 * What replies tell a client about its clock at no cost: how far each replica's clock is ahead of its own. Speed only.
 *
 * A reply carries its slack: the replica's clock at arrival minus the timestamp. The delay to the replica is an unknown
 * part of the round trip, so the offset is known to half of it; of many replies, the one with the shortest round trip
 * says most (NTP's clock filter, RFC 5905, 10). Two windows of a second are kept, so an estimate is never older than
 * two.
 */
import { DOUBLE_ZERO } from './double-zero.js';
import { count } from './masks.js';

const WINDOW_US = 1_000_000;

export class ClockOffsets {
  /** Two windows, each with the best sample of each replica: offset and round trip in µs. Infinity: no sample. */
  private readonly offsets: [Float64Array, Float64Array];
  private readonly roundTrips: [Float64Array, Float64Array];
  /** Our clock less the monotonic one when the samples were taken, µs. */
  private readonly bases: [Float64Array, Float64Array];
  private windowEndUs = DOUBLE_ZERO;
  private present = 0;

  constructor(private readonly replicas: number) {
    const table = (): [Float64Array, Float64Array] => [
      new Float64Array(replicas).fill(Infinity),
      new Float64Array(replicas).fill(Infinity),
    ];
    this.offsets = table();
    this.roundTrips = table();
    this.bases = table();
  }

  /**
   * `offsetUs`: slack plus what the timestamp was ahead of our clock's reading. It still contains the delay to the
   * replica. `baseUs`: that reading less the monotonic clock's, for `offsetByUs`.
   */
  heard(replica: number, offsetUs: number, roundTripUs: number, nowUs: number, baseUs = 0): void {
    if (nowUs >= this.windowEndUs) this.turn(nowUs);
    const roundTrips = this.roundTrips[this.present]!;
    if (!(roundTripUs >= 0 && roundTripUs < roundTrips[replica]!)) return;
    roundTrips[replica] = roundTripUs;
    this.offsets[this.present]![replica] = offsetUs - roundTripUs / 2;
    this.bases[this.present]![replica] = baseUs;
  }

  /** Replica's clock minus ours, µs; NaN if it was not heard recently. */
  offsetUs(replica: number): number {
    const window = this.bestWindow(replica);
    return this.roundTrips[window]![replica]! === Infinity ? NaN : this.offsets[window]![replica]!;
  }

  /**
   * `offsetUs`, corrected if our clock was set back since: `baseUs` is our clock less the monotonic one now, µs. A clock
   * that seems to have been set forward is left alone, because while a host is suspended only the monotonic one stops.
   */
  offsetByUs(replica: number, baseUs: number): number {
    const wasUs = this.bases[this.bestWindow(replica)]![replica]!;
    return this.offsetUs(replica) + Math.max(0, wasUs - baseUs);
  }

  /** Round trip of the sample behind `offsetUs`: the offset is known to half of it. */
  roundTripUs(replica: number): number {
    return this.roundTrips[this.bestWindow(replica)]![replica]!;
  }

  /**
   * What a majority of these replicas agree on, one bit each, as far as they can be told apart: [offset, uncertainty] in
   * µs; undefined if there is no such majority. `baseUs` as in `offsetByUs`; Infinity: nothing is corrected. Allocates:
   * for hosts, now and then.
   */
  majority(
    voters: number,
    nowUs: number,
    baseUs = Infinity,
  ): readonly [offsetUs: number, uncertaintyUs: number] | undefined {
    if (nowUs >= this.windowEndUs) this.turn(nowUs);
    const known = Array.from({ length: this.replicas }, (_, r) => r).filter(
      (r) => ((voters >>> r) & 1) === 1 && !Number.isNaN(this.offsetUs(r)),
    );
    for (const candidate of known.sort((a, b) => this.roundTripUs(a) - this.roundTripUs(b))) {
      const offset = this.offsetByUs(candidate, baseUs);
      const agreeing = known.filter(
        (r) => Math.abs(this.offsetByUs(r, baseUs) - offset) <= (this.roundTripUs(r) + this.roundTripUs(candidate)) / 2,
      );
      if (agreeing.length > count(voters) / 2) return [offset, this.roundTripUs(candidate) / 2];
    }
    return undefined;
  }

  private bestWindow(replica: number): number {
    return this.roundTrips[0]![replica]! <= this.roundTrips[1]![replica]! ? 0 : 1;
  }

  private turn(nowUs: number): void {
    // After a pause both windows are too old.
    if (nowUs >= this.windowEndUs + WINDOW_US) this.roundTrips[this.present]!.fill(Infinity);
    this.present = 1 - this.present;
    this.roundTrips[this.present]!.fill(Infinity);
    this.windowEndUs = nowUs + WINDOW_US;
  }
}
