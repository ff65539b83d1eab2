/**
 * Runs the disciplined clock against a simulated device with known true time, at full speed: a simulated hour takes a
 * second. The real filter and discipline of src/clock run; only the samples are made up.
 */
import { Discipline } from '../src/clock/discipline.js';
import { Random } from '../src/sim/random.js';
import { offsetFrom, PhcFilter, type PhcSample } from '../src/clock/phc-filter.js';

export interface SimulatedDevice {
  readonly name: string;
  /** Frequency error, ppm. */
  readonly driftPpm: number;
  /** The frequency follows a sine of this amplitude, ppm. */
  readonly wanderPpm?: number;
  /** Period of that sine, seconds. */
  readonly wanderPeriodS?: number;
  /** Standard deviation of a reading, ns. */
  readonly noiseNs: number;
  /** Width of the bracket, ns; the device is read at some moment in it. */
  readonly bracketNs: number;
  /** Share of readings that are far off, by up to 50 µs. */
  readonly freakShare?: number;
  /** Times at which the device is set, and by how much. */
  readonly steps?: readonly { readonly atS: number; readonly byNs: number }[];
}

export interface SimulatedRun {
  readonly seconds: number;
  readonly intervalNs: number;
  readonly seed: number;
  /** Readings before this are not counted: the filter needs some samples first. */
  readonly warmupS: number;
}

export interface SimulatedResult {
  readonly device: string;
  readonly samples: number;
  readonly readings: number;
  readonly errorNs: { readonly p50: number; readonly p99: number; readonly max: number };
  readonly boundNs: { readonly p50: number; readonly max: number };
  /** Readings whose error exceeded their stated bound. */
  readonly outsideBound: number;
  /**
   * Readings after the device was set and before it was sampled again: the change cannot be known yet. Not in
   * `outsideBound`.
   */
  readonly beforeNotice: number;
  /** Readings below an earlier one. */
  readonly backwards: number;
  readonly stepsSeen: number;
  /**
   * Samples from a step of the device until the filter first called a sample suspect, and until it called it a step.
   */
  readonly stepNoticed: readonly { readonly suspectAfter: number; readonly stepAfter: number }[];
  readonly outliers: number;
  /** One reading in this many, for a plot: seconds, error, bound. */
  readonly trace: readonly (readonly [s: number, errorNs: number, boundNs: number])[];
}

const READINGS_A_SAMPLE = 5;
const TRACE_POINTS = 600;
const RAW_START = 1_000_000_000_000n;
const DEVICE_AHEAD = 1_700_000_000_123_456_789n;

export function simulateClock(device: SimulatedDevice, run: SimulatedRun): SimulatedResult {
  const random = new Random(run.seed);
  const filter = new PhcFilter();
  const discipline = new Discipline();
  const errors: number[] = [];
  const bounds: number[] = [];
  const trace: [number, number, number][] = [];
  const stepNoticed: { suspectAfter: number; stepAfter: number }[] = [];
  const pendingSteps = [...(device.steps ?? [])];
  let stepPending: { since: number; suspect: number } | undefined;
  let outsideBound = 0;
  let beforeNotice = 0;
  let backwards = 0;
  let last = 0n;
  const samples = Math.floor((run.seconds * 1e9) / run.intervalNs);
  const readings = samples * READINGS_A_SAMPLE;
  for (let i = 0; i < samples; i++) {
    const atNs = i * run.intervalNs;
    const sample = takeSample(device, atNs, random);
    const verdict = filter.add(sample);
    while (pendingSteps.length > 0 && pendingSteps[0]!.atS * 1e9 <= atNs) {
      pendingSteps.shift();
      stepPending = { since: i, suspect: -1 };
    }
    if (stepPending !== undefined) {
      if (stepPending.suspect < 0 && (verdict === 'suspect' || verdict === 'step'))
        stepPending.suspect = i - stepPending.since + 1;
      if (verdict === 'step') {
        stepNoticed.push({ suspectAfter: stepPending.suspect, stepAfter: i - stepPending.since + 1 });
        stepPending = undefined;
      }
    }
    const line = filter.line!;
    if (verdict === 'taken' || verdict === 'step' || verdict === 'outlier')
      discipline.follow(line, 0n, sample.raw, run.intervalNs);
    for (let k = 0; k < READINGS_A_SAMPLE; k++) {
      const readNs = atNs + Math.round((run.intervalNs * (k + 0.99)) / READINGS_A_SAMPLE);
      const raw = RAW_START + BigInt(readNs);
      const shown = discipline.read(raw);
      const handedOut = shown > last ? shown : last;
      if (handedOut < last) backwards++;
      last = handedOut;
      if (readNs < run.warmupS * 1e9) continue;
      const error = Number(handedOut - raw - DEVICE_AHEAD) - truthAheadNs(device, readNs);
      // The clock's own statement: the line's bound at this age, plus the distance of the reading from the line.
      const gap = offsetFrom(line, { raw, device: handedOut, bracketNs: 0 });
      const bound = line.boundNs(Number(raw - line.rawAt)) + filter.doubtNs + Math.abs(gap);
      errors.push(Math.abs(error));
      bounds.push(bound);
      const unnoticed = pendingSteps.length > 0 && pendingSteps[0]!.atS * 1e9 <= readNs;
      if (unnoticed) beforeNotice++;
      else if (Math.abs(error) > bound) outsideBound++;
      const index = i * READINGS_A_SAMPLE + k;
      if (index % Math.ceil(readings / TRACE_POINTS) === 0) trace.push([readNs / 1e9, error, bound]);
    }
  }
  return {
    device: device.name,
    samples,
    readings: errors.length,
    errorNs: { p50: quantile(errors, 0.5), p99: quantile(errors, 0.99), max: quantile(errors, 1) },
    boundNs: { p50: quantile(bounds, 0.5), max: quantile(bounds, 1) },
    outsideBound,
    beforeNotice,
    backwards,
    stepsSeen: filter.steps,
    stepNoticed,
    outliers: filter.outliers,
    trace,
  };
}

function takeSample(device: SimulatedDevice, atNs: number, random: Random): PhcSample {
  const { bracketNs, noiseNs } = device;
  // The moment of the reading within the bracket is part of the noise: it is unknown.
  const where = (random.unit() - 0.5) * bracketNs * 0.1;
  const freak = random.unit() < (device.freakShare ?? 0) ? (random.unit() - 0.5) * 100_000 : 0;
  const readNs = atNs + where;
  const ahead = truthAheadNs(device, readNs) + where + gaussian(random) * noiseNs + freak;
  return {
    raw: RAW_START + BigInt(atNs),
    device: RAW_START + BigInt(atNs) + DEVICE_AHEAD + BigInt(Math.round(ahead)),
    bracketNs,
  };
}

/** Device minus raw clock, beyond DEVICE_AHEAD, `atNs` after the start. */
function truthAheadNs(device: SimulatedDevice, atNs: number): number {
  const { driftPpm, wanderPpm = 0, wanderPeriodS = 600, steps = [] } = device;
  const omega = (2 * Math.PI) / (wanderPeriodS * 1e9);
  let ahead = driftPpm * 1e-6 * atNs + ((wanderPpm * 1e-6) / omega) * (1 - Math.cos(omega * atNs));
  for (const { atS, byNs } of steps) if (atS * 1e9 <= atNs) ahead += byNs;
  return ahead;
}

function quantile(values: readonly number[], q: number): number {
  const sorted = Float64Array.from(values).sort();
  return Math.round(sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))]!);
}

/** Box and Muller. */
function gaussian(random: Random): number {
  return Math.sqrt(-2 * Math.log(1 - random.unit())) * Math.cos(2 * Math.PI * random.unit());
}
