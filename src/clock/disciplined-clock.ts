/**
 * A PTP hardware clock at the cost of a vDSO reading: sampled ten times a second, and extrapolated in between from
 * CLOCK_MONOTONIC_RAW by the addon (native/discipline.h).
 *
 * Readings are UTC whatever epoch the device uses. Hosts with and without such a clock can therefore share a cluster,
 * and falling back to the system clock is no leap. The epoch of the device is found when it is opened, and again after
 * a step: ptp4l moves a card from UTC to TAI when it starts, and a card that lost its link may move back. Between steps
 * the offset of a TAI device stays the same, so readings run on evenly across a leap second.
 *
 * The rule: reading never throws before close(), and never goes back. If the device disappears, or is set to a time
 * that is neither UTC nor TAI, the clock slews towards the system clock from the next sample on and reports it.
 * Meanwhile it keeps looking for the device.
 */
import type { DisciplinedHandle, NativeAddon } from '../native/addon.js';
import type { Clock } from './clock.js';
import { Discipline } from './discipline.js';
import { epochOf, TOLERANCE_NS, type DeviceEpoch } from './epoch.js';
import { ClockError } from './errors.js';
import { explainOpen, nativeClock, patiently, type SystemCallError } from './native-clock.js';
import { offsetFrom, PhcFilter, type PhcSample } from './phc-filter.js';
import { findEpoch } from './probe.js';
import type { ClockStatus } from './quality/statement.js';
import { PhcSampler, RealtimeSampler, type Sampler } from './sampler.js';

/** Time between samples; a tenth of it while the filter has few. */
export const SAMPLE_INTERVAL_MS = 100;
const FAST_SAMPLES = 16;
/** A line that no sample confirmed for this many intervals is a guess. */
const STALE_INTERVALS = 10;
/** How often a lost device is looked for. */
const REOPEN_MS = 1_000;

export interface DisciplinedOptions {
  readonly intervalMs?: number;
  /**
   * Takes over from the system clock: starts with the system clock's reading and moves to the device from there without
   * going back. Default false.
   */
  readonly fromSystem?: boolean;
  /** Called after every sample, also after a failed one. */
  readonly sampled?: () => void;
}

/** All numbers are ns, ppb or counts. */
export interface DisciplinedReport {
  readonly source: string;
  readonly method: string;
  readonly deviceEpoch: 'utc' | 'tai';
  readonly status: ClockStatus;
  /** The device was set to a time that is neither UTC nor TAI; the system clock is followed instead. */
  readonly unset: boolean;
  /**
   * Largest difference between the reading and the device (not true time: the device's own error comes on top); null
   * when the device is lost or unset.
   */
  readonly errorNs: number | null;
  /** The reading minus the device, as far as the samples tell. */
  readonly offsetNs: number;
  /** The device's rate against CLOCK_MONOTONIC_RAW. */
  readonly frequencyPpb: number;
  readonly sigmaNs: number;
  readonly bracketNs: number;
  readonly ageNs: number;
  readonly samples: number;
  readonly steps: number;
  readonly outliers: number;
  readonly fallbacks: number;
}

export class DisciplinedClock implements Clock {
  readonly source: string;
  readonly epoch = 'utc';
  private readonly filter = new PhcFilter();
  private readonly discipline = new Discipline();
  private readonly reading: Clock;
  private readonly handle: DisciplinedHandle;
  private timer: NodeJS.Timeout | undefined;
  private closed = false;
  /** Why the system clock is followed instead of the device; undefined while the device is followed. */
  private away: 'lost' | 'unset' | undefined;
  private fallbacks = 0;
  private taken = 0;
  private bracketNs = 0;
  private nextOpenMs = 0;

  private constructor(
    private readonly addon: NativeAddon,
    readonly path: string,
    private sampler: Sampler,
    private deviceEpoch: DeviceEpoch,
    private readonly options: DisciplinedOptions,
  ) {
    this.source = `disciplined:${path}`;
    this.handle = new addon.DisciplinedClock();
    this.reading = nativeClock(addon, this.source, this.epoch, this.handle.id, this.handle);
  }

  /** Throws the ClockErrors of openClock for a device, and `clock-not-set` and `clock-lost`. */
  static open(addon: NativeAddon, path: string, options: DisciplinedOptions = {}): DisciplinedClock {
    const sampler = PhcSampler.open(addon, path);
    try {
      const clock = new DisciplinedClock(addon, path, sampler, findEpoch(addon, sampler), options);
      if (options.fromSystem === true) clock.beginAtSystem();
      for (let i = 0; i < 3; i++) patiently(() => clock.takeSample());
      if (clock.filter.line === undefined)
        throw new ClockError(
          'clock-unavailable',
          `${path} gave no undisturbed sample: something keeps setting the system clock; find out which daemons do so (perhaps two)`,
        );
      clock.arm();
      return clock;
    } catch (error) {
      sampler.close();
      throw error instanceof ClockError ? error : explainOpen(path, error as SystemCallError);
    }
  }

  nowBigInt(): bigint {
    return this.reading.nowBigInt();
  }

  writeBE(bytes: Uint8Array, offset: number): void {
    this.reading.writeBE(bytes, offset);
  }

  writeHalves(out: Int32Array, index: number): void {
    this.reading.writeHalves(out, index);
  }

  close(): void {
    if (this.closed) return;
    this.closed = true;
    clearTimeout(this.timer);
    this.reading.close();
    this.sampler.close();
  }

  report(): DisciplinedReport {
    const { filter, discipline } = this;
    const line = filter.line!;
    const raw = this.addon.clockReadBigInt(this.addon.systemClocks['monotonic-raw']);
    const ageNs = Number(raw - line.rawAt);
    const shown = discipline.read(raw) - this.deviceEpoch.toUtcNs;
    const offsetNs = offsetFrom(line, { raw, device: shown, bracketNs: 0 });
    const stale = ageNs > STALE_INTERVALS * this.intervalMs * 1e6;
    const doubtful = filter.doubtNs > 0 || discipline.giveBack(raw);
    return {
      source: this.sampler.source,
      method: this.sampler.method,
      deviceEpoch: this.deviceEpoch.epoch,
      status:
        this.away === 'lost'
          ? 'lost'
          : this.away === 'unset'
            ? 'free-running'
            : doubtful
              ? 'stepped'
              : stale
                ? 'free-running'
                : 'synchronized',
      unset: this.away === 'unset',
      errorNs: this.away !== undefined ? null : Math.ceil(line.boundNs(ageNs) + filter.doubtNs + Math.abs(offsetNs)),
      offsetNs,
      frequencyPpb: Math.round(line.rate * 1e9),
      sigmaNs: Math.round(line.sigmaNs),
      bracketNs: this.bracketNs,
      ageNs,
      samples: this.taken,
      steps: filter.steps,
      outliers: filter.outliers,
      fallbacks: this.fallbacks,
    };
  }

  private get intervalMs(): number {
    return this.options.intervalMs ?? SAMPLE_INTERVAL_MS;
  }

  private arm(): void {
    this.timer = setTimeout(() => this.onTimer(), this.taken < FAST_SAMPLES ? this.intervalMs / 10 : this.intervalMs);
    this.timer.unref();
  }

  private onTimer(): void {
    if (this.closed) return;
    if (this.away !== undefined) this.reopen();
    try {
      this.takeSample();
    } catch {
      this.fallBack('lost');
    }
    this.options.sampled?.();
    if (!this.closed) this.arm();
  }

  /** Undefined if no sample could be taken. */
  private takeSample(): PhcSample | undefined {
    const sample = this.sampler.sample();
    if (sample === undefined) return undefined;
    this.taken++;
    this.bracketNs = sample.bracketNs;
    const verdict = this.filter.add(sample);
    if (verdict === 'suspect') return sample;
    if (verdict === 'step' && this.away === undefined && !this.findEpochAgain(sample)) {
      this.fallBack('unset');
      return sample;
    }
    this.discipline.follow(this.filter.line!, this.deviceEpoch.toUtcNs, sample.raw, this.intervalMs * 1e6);
    this.handle.set(this.discipline.segments);
    return sample;
  }

  /**
   * Called after a step. False: the device's time now belongs to no epoch. A small step leaves the epoch unchanged,
   * wherever the system clock is.
   */
  private findEpochAgain(sample: PhcSample): boolean {
    const steppedNs = sample.device + this.deviceEpoch.toUtcNs - this.discipline.read(sample.raw);
    if (steppedNs < TOLERANCE_NS && steppedNs > -TOLERANCE_NS) return true;
    const realtime = new RealtimeSampler(this.addon).sample();
    const epoch = epochOf(sample.device - sample.raw - (realtime.device - realtime.raw));
    if (epoch !== undefined) this.deviceEpoch = epoch;
    return epoch !== undefined;
  }

  /** The first line is the system clock's; later lines are slewed to, or waited for at half speed, from there. */
  private beginAtSystem(): void {
    const { filter, discipline, handle, addon } = this;
    const sample = new RealtimeSampler(addon).sample();
    filter.add(sample);
    discipline.follow(filter.line!, 0n, sample.raw, 0);
    handle.set(discipline.segments);
    filter.restart();
    // The sample is exact only to half its bracket: code that read the system clock just now may have seen a slightly
    // later time.
    const seen = addon.clockReadBigInt(addon.systemClocks.realtime);
    while (this.nowBigInt() < seen);
  }

  /** Follows the system clock until the device is back. A new line starts with the current line's rate. */
  private fallBack(away: 'lost' | 'unset'): void {
    this.away = away;
    this.fallbacks++;
    this.nextOpenMs = performance.now() + REOPEN_MS;
    this.use(new RealtimeSampler(this.addon), { epoch: 'utc', toUtcNs: 0n });
    this.takeSample();
  }

  private reopen(): void {
    if (performance.now() < this.nextOpenMs) return;
    this.nextOpenMs = performance.now() + REOPEN_MS;
    let sampler: PhcSampler | undefined;
    try {
      sampler = PhcSampler.open(this.addon, this.path);
      const epoch = findEpoch(this.addon, sampler);
      this.away = undefined;
      this.use(sampler, epoch);
    } catch {
      sampler?.close(); // not back yet, or still unset
    }
  }

  private use(sampler: Sampler, epoch: DeviceEpoch): void {
    this.sampler.close();
    this.sampler = sampler;
    this.deviceEpoch = epoch;
    this.filter.restart();
    this.taken = 0;
  }
}
