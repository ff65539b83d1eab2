/**
 * The clock of a replica or client: reads the chosen clock, watches how good it is, and continues without it if it
 * fails.
 *
 * The rule: a clock affects speed, never an answer, so no clock failure may stop a host. A lost device is replaced by
 * the system clock. A clock that cannot be trusted reports it once, and the host does without it where it can.
 */
import { join } from 'node:path';
import { native, type NativeBinding } from '../native/addon.js';
import { candidates, chooseClock } from './choose.js';
import type { Clock, ClockEpoch } from './clock.js';
import { listDevices, type ClockDevice } from './devices.js';
import { DisciplinedClock } from './disciplined-clock.js';
import { epochOf } from './epoch.js';
import { ClockError } from './errors.js';
import { openClock } from './open.js';
import { readChrony } from './quality/chrony.js';
import { readClockBound } from './quality/clockbound.js';
import { readEna } from './quality/ena.js';
import { readKernel } from './quality/kernel.js';
import { readPlatform } from './quality/platform.js';
import { readPtp4l } from './quality/ptp4l.js';
import { ERROR_LIMIT_NS, type ClockStatus, type Stated, type Statement } from './quality/statement.js';

/**
 * After a bound was too wide it must fall below this share of the limit: a bound that hovers around the limit must not
 * be reported again and again.
 */
const HYSTERESIS = 0.5;
/**
 * After this many assessments without any answer, the previous statement no longer holds: daemons are busy at times.
 */
const UNHEARD_MAX = 2;
/** Every this many assessments, the host looks for a better clock. */
const LOOK_AGAIN = 5;
/** How often the statements of daemons and drivers are read. */
const ASSESS_MS = 2_000;

export interface ClockQuality {
  readonly status: ClockStatus;
  /** Largest error against true time, ns; null: unknown. */
  readonly errorNs: number | null;
  /**
   * Nothing speaks against using it for timestamps. A clock of unknown error is used too, so this does not mean that it
   * is good: look at `errorNs`.
   */
  readonly healthy: boolean;
  /** In a few words, for display. */
  readonly found: string;
}

export interface TimeInterval {
  /** ns since the clock's epoch; null when the error is unknown. True time lies between the two. */
  readonly earliest: bigint | null;
  readonly latest: bigint | null;
  readonly status: ClockStatus;
}

export interface HostClockOptions {
  /** Called once for each change of status or health. */
  readonly changed?: (now: ClockQuality, before: ClockQuality) => void;
  readonly errorLimitNs?: number;
  readonly binding?: NativeBinding;
  /** Time between two assessments; for tests. */
  readonly assessMs?: number;
  readonly sources?: Sources;
}

/** For tests: where to find the daemons and drivers, instead of their places on a host. */
export interface Sources {
  readonly chronyPort?: number;
  readonly clockBoundPath?: string;
  readonly ptp4lSockets?: readonly string[];
  readonly root?: string;
}

/** A host's report on its clock, in a few bytes. */
export interface HostClockReport {
  readonly source: string;
  readonly epoch: ClockEpoch;
  readonly status: ClockStatus;
  readonly healthy: boolean;
  /** Error bound; absent if nothing states one. */
  readonly errorBoundNs?: number;
  /** The system clock minus this clock; absent if this is the system clock. */
  readonly offsetNs?: number;
  /** Since the start: changes of status or health, steps of the device, and losses of the device. */
  readonly changes: number;
  readonly steps: number;
  readonly fallbacks: number;
}

export class HostClock implements Clock {
  quality: ClockQuality = { status: 'unknown', errorNs: null, healthy: true, found: 'not looked at yet' };
  private changes = 0;
  private fallbacks = 0;
  private timer: NodeJS.Timeout | undefined;
  private statements: readonly Stated[] = [];
  private unheard = 0;
  private assessments = 0;
  /** The last source that vouched for the clock. */
  private voucher: string | undefined;
  /** The source that last reported too wide an error; its silence does not take that back. */
  private tooWideBy: string | undefined;
  /** The current epoch of a device that is read directly, if it differs from the epoch at opening. */
  private otherEpoch: ClockEpoch | undefined;
  /** The hardware clock being read, `unlisted` if sysfs does not list it; undefined for the system clock. */
  private device: ClockDevice | 'unlisted' | undefined;
  private readonly system: Clock;
  /** What to add to the system clock to reach the epoch of a direct clock; and that epoch. */
  private shiftNs = 0n;
  private readonly directEpoch: ClockEpoch;
  private replaced = false;
  private closed = false;
  /** The first assessment is not a change. */
  private opened = false;

  private constructor(
    private readonly spec: string,
    private clock: Clock,
    /** Why this clock was chosen. */
    public why: string,
    private readonly options: HostClockOptions,
  ) {
    this.system = openClock('realtime', options.binding);
    this.directEpoch = clock.epoch;
    const path = /^(?:phc|disciplined):(.*)$/.exec(clock.source)?.[1];
    this.device = path === undefined ? undefined : (listDevices().find((device) => device.path === path) ?? 'unlisted');
    if (clock.source.startsWith('phc:'))
      this.shiftNs = -(epochOf(clock.nowBigInt() - this.system.nowBigInt())?.toUtcNs ?? 0n);
  }

  /** Throws the ClockErrors of chooseClock. */
  static async open(spec: string, options: HostClockOptions = {}): Promise<HostClock> {
    let host: HostClock | undefined;
    const { clock, why } = await chooseClock(spec, { sampled: () => host?.judge() }, options);
    host = new HostClock(spec, clock, why, options);
    try {
      await host.assess();
      host.opened = true;
    } catch (error) {
      host.close();
      throw error;
    }
    return host;
  }

  get source(): string {
    return this.replaced ? `${this.clock.source} in place of a lost device` : this.clock.source;
  }

  get epoch(): ClockEpoch {
    return this.replaced ? this.directEpoch : this.clock.epoch;
  }

  nowBigInt(): bigint {
    try {
      return this.clock.nowBigInt() + (this.replaced ? this.shiftNs : 0n);
    } catch (error) {
      return this.replace(error) ? this.nowBigInt() : this.systemReading();
    }
  }

  writeBE(bytes: Uint8Array, offset: number): void {
    if (this.replaced) return writeReading(bytes, offset, this.nowBigInt());
    try {
      this.clock.writeBE(bytes, offset);
    } catch (error) {
      if (this.replace(error)) this.writeBE(bytes, offset);
      else writeReading(bytes, offset, this.systemReading());
    }
  }

  writeHalves(out: Int32Array, index: number): void {
    if (this.replaced) return writeReadingHalves(out, index, this.nowBigInt());
    try {
      this.clock.writeHalves(out, index);
    } catch (error) {
      if (this.replace(error)) this.writeHalves(out, index);
      else writeReadingHalves(out, index, this.systemReading());
    }
  }

  /** The interval that contains true time, if any source vouches for one. */
  now(): TimeInterval {
    const reading = this.nowBigInt();
    this.judge();
    const { status, errorNs } = this.quality;
    if (errorNs === null) return { earliest: null, latest: null, status };
    const error = BigInt(Math.ceil(errorNs));
    return { earliest: reading - error, latest: reading + error, status };
  }

  report(): HostClockReport {
    const { status, healthy, errorNs } = this.quality;
    const bound = errorNs === null ? {} : { errorBoundNs: Math.ceil(errorNs) };
    const disciplined = this.clock instanceof DisciplinedClock ? this.clock.report() : undefined;
    return {
      source: this.source,
      epoch: this.epoch,
      status,
      healthy,
      ...bound,
      ...this.systemOffset(),
      changes: this.changes,
      steps: disciplined?.steps ?? 0,
      fallbacks: this.fallbacks + (disciplined?.fallbacks ?? 0),
    };
  }

  /** Replaces the reading of a direct clock. */
  private systemReading(): bigint {
    return this.system.nowBigInt() + this.shiftNs;
  }

  /** CLOCK_REALTIME minus a hardware clock that also counts UTC. */
  private systemOffset(): { offsetNs?: number } {
    if (!(this.clock instanceof DisciplinedClock)) return {};
    const before = this.clock.nowBigInt();
    const system = this.system.nowBigInt();
    return { offsetNs: Number(system - before - (this.clock.nowBigInt() - before) / 2n) };
  }

  close(): void {
    this.closed = true;
    this.system.close();
    clearTimeout(this.timer);
    this.clock.close();
  }

  /** Asks every source, judges the answers, and schedules the next assessment. */
  private async assess(): Promise<void> {
    const { binding = native, sources } = this.options;
    if (this.replaced) this.takeBack();
    else if (this.opened && this.spec === 'auto' && this.device === undefined && ++this.assessments % LOOK_AGAIN === 0)
      await this.lookAgain();
    const heard =
      this.device === undefined
        ? await systemStatements(binding, sources)
        : this.device === 'unlisted'
          ? []
          : await deviceStatements(binding, this.device, sources);
    if (this.closed) return;
    const known = firstKnown(heard);
    this.unheard = known === undefined ? this.unheard + 1 : 0;
    if (known !== undefined) this.voucher = known.source;
    if (known !== undefined || this.unheard >= UNHEARD_MAX || !this.opened) this.statements = heard;
    if (this.clock.source.startsWith('phc:')) this.compareEpoch();
    this.judge();
    this.assessLater();
  }

  /**
   * An assessment that fails (no descriptors left, a vanished file of /sys) changes nothing; the next one stays
   * scheduled.
   */
  private assessLater(): void {
    if (this.closed) return;
    const assess = (): void => void this.assess().catch(() => this.assessLater());
    this.timer = setTimeout(assess, this.options.assessMs ?? ASSESS_MS);
    this.timer.unref();
  }

  /**
   * `auto` found no disciplined hardware clock at first; one may exist by now. The clock slews to it from the system
   * clock's reading.
   */
  private async lookAgain(): Promise<void> {
    if (listDevices().length === 0) return;
    const { binding = native } = this.options;
    const found = (await candidates(binding === native ? {} : { binding })).find(({ usable }) => usable);
    if (this.closed || found?.device === undefined) return;
    try {
      const clock = openClock(found.spec, binding, { sampled: () => this.judge(), fromSystem: true });
      this.clock.close();
      this.clock = clock;
      this.device = found.device;
      this.why = found.why;
      this.voucher = undefined;
      this.statements = [];
      this.judge(true);
    } catch {
      // gone again
    }
  }

  /**
   * A device that is read directly may be set meanwhile, typically from UTC to TAI: then it is 37 s away from the
   * clocks of others.
   */
  private compareEpoch(): void {
    const aheadNs = this.nowBigInt() - this.system.nowBigInt();
    const epoch = epochOf(aheadNs)?.epoch ?? 'boot';
    this.otherEpoch = epoch === this.directEpoch ? undefined : epoch;
  }

  /** A lost direct clock may be back. If its epoch has changed, it is not the same clock. */
  private takeBack(): void {
    let clock: Clock | undefined;
    try {
      clock = openClock(this.spec, this.options.binding);
      clock.nowBigInt();
      if (clock.epoch !== this.directEpoch)
        throw new ClockError(
          'clock-not-set',
          `${clock.source} counted ${this.directEpoch} and counts ${clock.epoch} now`,
        );
    } catch {
      clock?.close();
      return;
    }
    this.clock.close();
    this.clock = clock;
    this.replaced = false;
  }

  /**
   * Cheap: also called after every sample of a disciplined clock. `another`: a different clock took over, which counts
   * as a change whatever its quality.
   */
  private judge(another = false): void {
    const quality = this.replaced
      ? { status: 'lost' as const, errorNs: null, found: 'the device stopped answering; the system clock is used' }
      : this.clock instanceof DisciplinedClock
        ? judgeDisciplined(this.clock, this.statements, this.voucher)
        : this.otherEpoch !== undefined
          ? {
              status: 'free-running' as const,
              errorNs: null,
              found: `the device was set: it counted ${this.directEpoch} when it was opened, and counts ${this.otherEpoch} now; restart this process`,
            }
          : judgeStatements(this.clock.epoch, this.statements, this.voucher);
    const healthy =
      (quality.status === 'synchronized' || quality.status === 'unknown') && this.isNarrow(quality.errorNs);
    const before = this.quality;
    this.quality = { ...quality, healthy };
    if (!this.opened || (!another && before.status === quality.status && before.healthy === healthy)) return;
    this.changes++;
    this.options.changed?.(this.quality, before);
  }

  /**
   * A bound that was too wide stays so until the same source states less than half of the limit: silence is not a
   * better bound.
   */
  private isNarrow(errorNs: number | null): boolean {
    if (errorNs === null) return this.tooWideBy === undefined || this.tooWideBy !== this.voucher;
    const limit = this.options.errorLimitNs ?? ERROR_LIMIT_NS;
    const narrow = errorNs <= limit * (this.quality.healthy ? 1 : HYSTERESIS);
    this.tooWideBy = narrow ? undefined : this.voucher;
    return narrow;
  }

  /**
   * Only a lost device is answered with another clock; every other error is the caller's mistake, or a closed clock.
   * False: the device is busy, and the system clock provides this one reading.
   */
  private replace(error: unknown): boolean {
    if (!this.replaced && error instanceof ClockError && error.code === 'clock-unavailable') return false;
    if (this.replaced || !(error instanceof ClockError) || error.code !== 'clock-lost') throw error;
    this.clock.close();
    this.clock = openClock('realtime', this.options.binding);
    this.replaced = true;
    this.fallbacks++;
    this.judge();
    return true;
  }
}

function writeReading(bytes: Uint8Array, offset: number, reading: bigint): void {
  new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength).setBigUint64(offset, reading);
}

function writeReadingHalves(out: Int32Array, index: number, reading: bigint): void {
  out[index] = Number(BigInt.asIntN(32, reading >> 32n));
  out[index + 1] = Number(BigInt.asIntN(32, reading));
}

/**
 * Statements about CLOCK_REALTIME. A ptp4l that does not answer may be the daemon that disciplines it; only a ptp4l
 * known to timestamp in hardware is left out.
 */
export async function systemStatements(binding: NativeBinding, sources: Sources = {}): Promise<readonly Stated[]> {
  const monotonic = process.hrtime.bigint(); // CLOCK_MONOTONIC
  const [chrony, ptp4l] = await Promise.all([
    readChrony(sources.chronyPort, undefined, () => phcErrorNs(sources.root)),
    readPtp4l(binding, sources.ptp4lSockets),
  ]);
  const ours = !ptp4l.available || ptp4l.statement.about === 'realtime' ? [ptp4l] : [];
  return [readClockBound(monotonic, sources.clockBoundPath), chrony, ...ours, readKernel(binding)];
}

/**
 * The largest error that the drivers of this host's hardware clocks state, ns; null if one of them states none, or if
 * there is no such clock.
 */
function phcErrorNs(root: string = '/'): number | null {
  let largest: number | null = null;
  for (const device of listDevices(root)) {
    const ena = readEna(device.name, join(root, 'sys'));
    if (!ena.available || ena.statement.errorNs === null) return null;
    largest = Math.max(largest ?? 0, ena.statement.errorNs);
  }
  return largest;
}

/** Statements about a PTP hardware clock. */
export async function deviceStatements(
  binding: NativeBinding,
  device: ClockDevice,
  sources: Sources = {},
): Promise<readonly Stated[]> {
  const ptp4l = await readPtp4l(binding, sources.ptp4lSockets);
  const ours =
    ptp4l.available &&
    ptp4l.statement.about === 'phc' &&
    (ptp4l.report?.interface === undefined || device.interfaces.includes(ptp4l.report.interface));
  const platform = readPlatform(device);
  return [
    readEna(device.name, join(sources.root ?? '/', 'sys')),
    ...(ours || !ptp4l.available ? [ptp4l] : []),
    ...(platform.available ? [platform] : []),
  ];
}

/** The first source that says something decides: the sources are ordered by how much they know. */
function judgeStatements(
  epoch: ClockEpoch,
  statements: readonly Stated[],
  voucher: string | undefined,
): Omit<ClockQuality, 'healthy'> {
  if (epoch === 'boot') return { status: 'unknown', errorNs: null, found: 'not meant to show the time of day' };
  const known = firstKnown(statements);
  return known === undefined
    ? unvouched(voucher)
    : { status: known.status, errorNs: known.errorNs, found: `${known.source}: ${known.found}` };
}

/** The clock's distance from its device, plus the device's distance from true time. */
function judgeDisciplined(
  clock: DisciplinedClock,
  statements: readonly Stated[],
  voucher: string | undefined,
): Omit<ClockQuality, 'healthy'> {
  const { status, errorNs, source, method, unset } = clock.report();
  if (unset)
    return {
      status,
      errorNs: null,
      found: `the device was set to a time that is neither UTC nor TAI; ${source} is followed`,
    };
  if (status !== 'synchronized')
    return {
      status,
      errorNs: null,
      found:
        status === 'lost'
          ? `the device stopped answering; ${source} is followed`
          : `the device is ${status === 'stepped' ? 'being set' : 'not answering'}`,
    };
  const known = firstKnown(statements);
  const within = `within ${errorNs} ns of ${source} (${method})`;
  if (known === undefined) {
    const { found, ...quality } = unvouched(voucher);
    return { ...quality, found: `${within}; ${found}` };
  }
  return {
    status: known.status,
    errorNs: known.errorNs === null ? null : known.errorNs + errorNs!,
    found: `${within}; ${known.source}: ${known.found}`,
  };
}

/** A clock that was never vouched for is not known to be bad. A clock whose daemon has vanished is. */
function unvouched(voucher: string | undefined): Omit<ClockQuality, 'healthy'> {
  if (voucher === undefined) return { status: 'unknown', errorNs: null, found: 'no source states its error' };
  return { status: 'free-running', errorNs: null, found: `${voucher} vouched for it but no longer answers` };
}

function firstKnown(statements: readonly Stated[]): Statement | undefined {
  for (const stated of statements)
    if (stated.available && stated.statement.status !== 'unknown') return stated.statement;
  return undefined;
}
