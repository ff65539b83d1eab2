/**
 * Fits a line to samples of a device: where it is, how fast it runs, and how far that can be trusted.
 *
 * A sample says what the device showed while the raw clock was in the middle of a bracket. Samples are noisy, some are
 * far off, and now and then the device itself is set. A line is therefore fitted robustly through a window of samples:
 * a sample far from it loses its weight. A sample that contradicts the line is held; the next ones tell whether it was
 * an outlier or a step. After a step a new window begins. Until then the doubt is part of the bound.
 *
 * The bound has three parts: half the bracket, because the moment of the reading within it is unknown and averaging
 * does not reveal it; the spread of the fit at that age; and how much the rate may have changed since. It grows with
 * age.
 *
 * Pure: no clock is read here, so that an hour can be simulated in a second. Numbers are ns relative to the newest
 * sample, so that doubles are exact enough; absolute times are BigInt and cold.
 */

/** Samples in the long window, and in the short one, which takes over when the rate has changed recently. */
const WINDOW = 64;
const WINDOW_SHORT = 16;
/** With fewer samples than this, the previous window's rate is kept unless these samples contradict it. */
const RATE_SAMPLES = 8;
/** Width of a bound in standard deviations. */
const SIGMAS = 6;
/** How fast a rate may change before the samples show it: ppb a second. A crystal in a warming case does 10. */
const WANDER_PER_S = 20e-9;
/** A sample this far off the line is not noise, however large the noise is. */
const GATE_NS_MIN = 2_000;
const GATE_SIGMAS = 10;
/** The noise estimate is never below this. */
const SIGMA_NS_MIN = 2;
/** With too few samples to see the noise, the estimate is never below this. */
const SIGMA_NS_FEW = 200;
/** Consecutive samples that must agree with each other, against the line, to prove a step; fewer for a large step. */
const STEP_SAMPLES_LARGE = 2;
const STEP_SAMPLES = 3;
const STEP_LARGE_NS = 100_000;
/** After this many samples that agree with nothing, the line is given up. */
const SUSPECTS_MAX = 6;
/** Samples around a step agree if their rates differ by no more than this. */
const STEP_RATE = 10e-6;
/** The short window takes over when the two differ by this many deviations. */
const WINDOW_SIGMAS = 4;
/** Standard deviation of an unknown rate: worse than any crystal. */
const RATE_SIGMA_UNKNOWN = 100e-6;
const REWEIGHTINGS = 3;
/** Residuals beyond this many deviations have no weight (Tukey's biweight). */
const TUKEY = 5;
/** Converts the median absolute deviation to a standard deviation, for a normal distribution. */
const MAD_TO_SIGMA = 1.4826;

export interface PhcSample {
  /** CLOCK_MONOTONIC_RAW, ns. */
  readonly raw: bigint;
  /** The device's reading at that moment, ns. */
  readonly device: bigint;
  /** Width of the interval of raw time within which the device was read, ns. */
  readonly bracketNs: number;
}

/** device ≈ deviceAt + (raw − rawAt) · (1 + rate). */
export interface PhcLine {
  readonly rawAt: bigint;
  readonly deviceAt: bigint;
  /** Dimensionless: 1e-6 is one part per million fast. */
  readonly rate: number;
  /** Standard deviation of a sample about the line, ns. */
  readonly sigmaNs: number;
  readonly samples: number;
  /** Largest error of the line `ageNs` after `rawAt`, ns. */
  boundNs(ageNs: number): number;
}

/**
 * What a sample turned out to be: it fits; it contradicts the line and is held; it was held and was an outlier; it
 * proves a step.
 */
export type SampleVerdict = 'taken' | 'suspect' | 'outlier' | 'step';

interface Fit {
  readonly offset: number;
  readonly rate: number;
  readonly sigma: number;
  readonly weight: number;
  readonly meanX: number;
  readonly spreadX: number;
  readonly span: number;
  readonly count: number;
  readonly halfBracket: number;
  /** The distance to the other window's value, if the two disagree. */
  readonly disputed?: number;
  /** Set if the rate comes from an earlier window. */
  readonly rateSigma: number | undefined;
}

export class PhcFilter {
  /** Undefined until the first sample. */
  line: PhcLine | undefined;
  steps = 0;
  outliers = 0;
  private readonly samples: PhcSample[] = [];
  /** The doubt about the line: how far from it the newest held sample was, ns. Add it to the line's bound. */
  doubtNs = 0;
  private readonly suspects: PhcSample[] = [];
  private priorRate: number | undefined;

  add(sample: PhcSample): SampleVerdict {
    const { line, suspects } = this;
    const newest = suspects.at(-1) ?? this.samples.at(-1);
    if (newest !== undefined && sample.raw <= newest.raw) return 'outlier'; // the raw clock does not go back
    if (line === undefined || this.agrees(line, sample)) {
      const verdict = suspects.length === 0 ? 'taken' : 'outlier';
      this.outliers += suspects.length;
      this.settle();
      this.take(sample);
      return verdict;
    }
    const off = Math.abs(offsetFrom(line, sample));
    const agreeing = suspects.filter((suspect) => agreeWithEachOther(suspect, sample, line.rate));
    suspects.push(sample);
    const proven = agreeing.length + 1 >= (off > STEP_LARGE_NS ? STEP_SAMPLES_LARGE : STEP_SAMPLES);
    if (!proven && suspects.length < SUSPECTS_MAX) {
      this.doubtNs = off;
      return 'suspect';
    }
    this.steps++;
    this.priorRate = line.rate;
    this.samples.length = 0;
    if (proven) {
      this.outliers += suspects.length - 1 - agreeing.length;
      this.samples.push(...agreeing);
    }
    this.settle();
    this.take(sample);
    return 'step';
  }

  /** Forgets everything but the counts: for another device, or for the same device after a gap. */
  restart(): void {
    this.samples.length = 0;
    this.settle();
    this.priorRate = this.line?.rate;
    this.line = undefined;
  }

  private settle(): void {
    this.suspects.length = 0;
    this.doubtNs = 0;
  }

  private agrees(line: PhcLine, sample: PhcSample): boolean {
    const age = Number(sample.raw - line.rawAt);
    const off = Math.abs(offsetFrom(line, sample));
    return off <= Math.max(GATE_NS_MIN, GATE_SIGMAS * line.sigmaNs) + line.boundNs(age) + sample.bracketNs / 2;
  }

  private take(sample: PhcSample): void {
    this.samples.push(sample);
    if (this.samples.length > WINDOW) this.samples.shift();
    const { samples } = this;
    const long = this.fit(samples, sample);
    let fit = long;
    if (samples.length >= 2 * WINDOW_SHORT) {
      const short = this.fit(samples.slice(-WINDOW_SHORT), sample);
      const spread = Math.hypot(spreadAt(short, 0), spreadAt(long, 0));
      const disputed = Math.abs(short.offset - long.offset);
      if (disputed > WINDOW_SIGMAS * spread) fit = { ...short, disputed };
    }
    const { rate, sigma } = fit;
    this.line = {
      rawAt: sample.raw,
      deviceAt: sample.device + BigInt(Math.round(fit.offset)),
      rate,
      sigmaNs: sigma,
      samples: fit.count,
      boundNs: (ageNs) =>
        fit.halfBracket + (fit.disputed ?? 0) + SIGMAS * spreadAt(fit, ageNs) + wander(fit.span, Math.abs(ageNs)) + 1,
    };
  }

  /** Fits relative to `newest`: x = raw, y = device − raw. `offset` is the line's value at x = 0. */
  private fit(samples: readonly PhcSample[], newest: PhcSample): Fit {
    const count = samples.length;
    const xs = samples.map(({ raw }) => Number(raw - newest.raw));
    const ys = samples.map(({ raw, device }) => Number(device - newest.device - (raw - newest.raw)));
    const base = samples.map(({ bracketNs }) => 1 / (100 + bracketNs) ** 2);
    const halfBracket = weightedMean(
      samples.map(({ bracketNs }) => bracketNs / 2),
      base,
    );
    const span = -xs[0]!;
    let weights = base;
    let { rate, offset } = initialLine(xs, ys, this.priorRate);
    let sigma = 0;
    for (let i = 0; i < REWEIGHTINGS; i++) {
      const residuals = ys.map((y, k) => y - offset - rate * xs[k]!);
      sigma = Math.max(
        SIGMA_NS_MIN,
        MAD_TO_SIGMA * median(residuals.map(Math.abs)),
        count < RATE_SAMPLES ? Math.max(SIGMA_NS_FEW, halfBracket / 2) : 0,
      );
      weights = base.map((weight, k) => weight * biweight(residuals[k]! / (TUKEY * sigma)));
      const solved = leastSquares(xs, ys, weights);
      if (solved === undefined) break;
      ({ rate, offset } = solved);
    }
    const weight = effectiveCount(weights);
    const meanX = weightedMean(xs, weights);
    const spreadX = weightedMean(
      xs.map((x) => (x - meanX) ** 2),
      weights,
    );
    const own = { sigma, weight, meanX, spreadX, span, count, halfBracket };
    if (count >= RATE_SAMPLES) return { ...own, rate, offset, rateSigma: undefined };
    // Too few samples for a rate: the previous rate is kept unless they contradict it.
    const ownRateSigma = count < 2 ? RATE_SIGMA_UNKNOWN : (sigma + halfBracket) / Math.sqrt(weight * spreadX);
    const prior = this.priorRate ?? 0;
    const determined =
      this.priorRate === undefined ? ownRateSigma < RATE_SIGMA_UNKNOWN : Math.abs(rate - prior) > 4 * ownRateSigma;
    if (determined) return { ...own, rate, offset, rateSigma: ownRateSigma };
    const level = weightedMean(
      ys.map((y, k) => y - prior * xs[k]!),
      weights,
    );
    return {
      ...own,
      rate: prior,
      offset: level,
      rateSigma: this.priorRate === undefined ? RATE_SIGMA_UNKNOWN : Math.min(RATE_SIGMA_UNKNOWN, ownRateSigma),
    };
  }
}

/** The device's reading in a sample minus the line's, ns. */
export function offsetFrom(line: PhcLine, sample: PhcSample): number {
  const elapsed = Number(sample.raw - line.rawAt);
  return Number(sample.device - line.deviceAt - (sample.raw - line.rawAt)) - elapsed * line.rate;
}

/** Two consecutive samples that show the same device, whatever the line says. */
function agreeWithEachOther(first: PhcSample, second: PhcSample, rate: number): boolean {
  const elapsed = Number(second.raw - first.raw);
  const off = Number(second.device - first.device - (second.raw - first.raw)) - elapsed * rate;
  return Math.abs(off) <= GATE_NS_MIN + (first.bracketNs + second.bracketNs) / 2 + STEP_RATE * elapsed;
}

/** Standard deviation of the line's value at x = `ageNs`. */
function spreadAt(fit: Fit, ageNs: number): number {
  const { sigma, weight, meanX, spreadX, rateSigma } = fit;
  const distance = ageNs - meanX;
  const ofRate = rateSigma ?? sigma / Math.sqrt(weight * Math.max(spreadX, 1));
  return Math.hypot(sigma / Math.sqrt(weight), ofRate * distance);
}

/** How far a rate that changes by WANDER_PER_S moves a line fitted over `spanNs`, `ageNs` after the window's end. */
function wander(spanNs: number, ageNs: number): number {
  const span = spanNs / 1e9;
  const age = ageNs / 1e9;
  return WANDER_PER_S * (span ** 2 / 12 + (span * age) / 2 + age ** 2 / 2) * 1e9;
}

/**
 * The median slope between samples half a window apart, and the median level: up to a quarter of the samples may be
 * wrong.
 */
function initialLine(
  xs: readonly number[],
  ys: readonly number[],
  priorRate: number | undefined,
): { rate: number; offset: number } {
  const half = xs.length >> 1;
  const slopes: number[] = [];
  for (let i = 0; half > 0 && i + half < xs.length; i++)
    slopes.push((ys[i + half]! - ys[i]!) / (xs[i + half]! - xs[i]!));
  const rate = slopes.length === 0 ? (priorRate ?? 0) : median(slopes);
  return { rate, offset: median(ys.map((y, i) => y - rate * xs[i]!)) };
}

/** Undefined when the points do not determine a line. */
function leastSquares(
  xs: readonly number[],
  ys: readonly number[],
  weights: readonly number[],
): { rate: number; offset: number } | undefined {
  const meanX = weightedMean(xs, weights);
  const meanY = weightedMean(ys, weights);
  let xx = 0;
  let xy = 0;
  for (let i = 0; i < xs.length; i++) {
    xx += weights[i]! * (xs[i]! - meanX) ** 2;
    xy += weights[i]! * (xs[i]! - meanX) * (ys[i]! - meanY);
  }
  if (!(xx > 0)) return undefined;
  const rate = xy / xx;
  return { rate, offset: meanY - rate * meanX };
}

function biweight(u: number): number {
  return Math.abs(u) >= 1 ? 0 : (1 - u * u) ** 2;
}

function weightedMean(values: readonly number[], weights: readonly number[]): number {
  let sum = 0;
  let total = 0;
  for (let i = 0; i < values.length; i++) {
    sum += weights[i]! * values[i]!;
    total += weights[i]!;
  }
  return total > 0 ? sum / total : values[values.length - 1]!;
}

/** The number of samples of equal weight that would be worth as much (Kish). */
function effectiveCount(weights: readonly number[]): number {
  let sum = 0;
  let squares = 0;
  for (const weight of weights) {
    sum += weight;
    squares += weight * weight;
  }
  return squares > 0 ? (sum * sum) / squares : 1;
}

function median(values: readonly number[]): number {
  const sorted = Float64Array.from(values).sort();
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}
