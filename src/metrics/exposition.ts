/**
 * Metrics in the format that Prometheus reads: text format 0.0.4 (prometheus.io/docs/instrumenting/exposition_formats).
 *
 * Names follow Prometheus' own rules: base units (seconds, bytes), `_total` on counters and on nothing else, one help
 * text each. `lint` reports violations.
 */

/** Prefix of every metric of this project. */
export const METRIC_PREFIX = 'jitpaxos_';

export type Labels = Readonly<Record<string, string>>;

export interface Sample {
  readonly labels?: Labels;
  readonly value: number;
}

/** Not cumulative; `counts` has one more element than `bounds`, for values above the last bound. */
export interface HistogramSample {
  readonly labels?: Labels;
  readonly bounds: readonly number[];
  readonly counts: readonly number[];
  readonly sum: number;
}

/** One metric with all its label values. */
export type Family =
  | {
      readonly name: string;
      readonly kind: 'counter' | 'gauge';
      readonly help: string;
      readonly samples: readonly Sample[];
    }
  | {
      readonly name: string;
      readonly kind: 'histogram';
      readonly help: string;
      readonly samples: readonly HistogramSample[];
    };

export const EXPOSITION_CONTENT_TYPE = 'text/plain; version=0.0.4; charset=utf-8';

export function counter(name: string, help: string, value: number | readonly Sample[]): Family {
  return { name, kind: 'counter', help, samples: samplesOf(value) };
}

export function gauge(name: string, help: string, value: number | readonly Sample[]): Family {
  return { name, kind: 'gauge', help, samples: samplesOf(value) };
}

/** One sample for each key, under the label `label`. */
export function byLabel(label: string, values: Readonly<Record<string, number>>): Sample[] {
  return Object.entries(values).map(([key, value]) => ({ labels: { [label]: key }, value }));
}

/** The exposition of all families, in order. */
export function expose(families: readonly Family[]): string {
  const lines: string[] = [];
  for (const family of families) {
    lines.push(`# HELP ${family.name} ${escapeHelp(family.help)}`, `# TYPE ${family.name} ${family.kind}`);
    if (family.kind === 'histogram') for (const sample of family.samples) exposeHistogram(family.name, sample, lines);
    else
      for (const { labels, value } of family.samples)
        lines.push(`${family.name}${labelText(labels)} ${numberText(value)}`);
  }
  return `${lines.join('\n')}\n`;
}

/** What is wrong with names, help texts and samples, as sentences. */
export function lint(families: readonly Family[], prefix: string): string[] {
  const wrong: string[] = [];
  const seen = new Set<string>();
  for (const { name, kind, help, samples } of families) {
    const say = (what: string): void => void wrong.push(`${name}: ${what}`);
    if (!new RegExp(`^${prefix}[a-z][a-z0-9]*(_[a-z0-9]+)*$`).test(name))
      say(`a name is ${prefix} and words of a–z and 0–9 with single underscores`);
    if (kind === 'counter' && !name.endsWith('_total')) say('a counter ends in _total');
    if (kind !== 'counter' && /_(total|count|sum|bucket)$/.test(name))
      say(`a ${kind} does not end in _total, _count, _sum or _bucket`);
    if (
      /_(ns|us|ms|nanoseconds|microseconds|milliseconds|minutes|hours|kb|mb|kilobytes|megabytes|percent)(_|$)/.test(
        name,
      )
    )
      say('units are base units: seconds, bytes, ratios');
    if (/_(counter|gauge|histogram)(_|$)/.test(name)) say('the kind is not part of the name');
    if (kind === 'histogram' && !/_(seconds|bytes)$/.test(name)) say('a histogram ends in its unit');
    if (!/^[A-Z].*[^.\s]$/.test(help)) say('a help text begins with a capital letter and ends without a full stop');
    if (seen.has(name)) say('is there twice');
    seen.add(name);
    const labelSets = new Set<string>();
    for (const sample of samples) {
      const text = labelText(sample.labels);
      if (labelSets.has(text)) say(`has two samples${text}`);
      labelSets.add(text);
      for (const label of Object.keys(sample.labels ?? {}))
        if (!/^[a-z][a-z0-9_]*$/.test(label) || label === 'le') say(`label "${label}" is not allowed`);
      if ('value' in sample && (!Number.isFinite(sample.value) || (kind === 'counter' && sample.value < 0)))
        say(`has the value ${sample.value}`);
      if (
        'bounds' in sample &&
        (sample.counts.length !== sample.bounds.length + 1 ||
          sample.bounds.some((bound, i) => i > 0 && bound <= sample.bounds[i - 1]!))
      )
        say('has bounds that do not ascend, or not one count more');
    }
  }
  return wrong;
}

function samplesOf(value: number | readonly Sample[]): readonly Sample[] {
  return typeof value === 'number' ? [{ value }] : value;
}

function exposeHistogram(name: string, { labels, bounds, counts, sum }: HistogramSample, lines: string[]): void {
  let total = 0;
  counts.forEach((count, at) => {
    total += count;
    lines.push(
      `${name}_bucket${labelText({ ...labels, le: at < bounds.length ? numberText(bounds[at]!) : '+Inf' })} ${numberText(total)}`,
    );
  });
  lines.push(
    `${name}_sum${labelText(labels)} ${numberText(sum)}`,
    `${name}_count${labelText(labels)} ${numberText(total)}`,
  );
}

function labelText(labels: Labels | undefined): string {
  const parts = Object.entries(labels ?? {}).map(
    ([key, value]) => `${key}="${value.replace(/\\/g, '\\\\').replace(/\n/g, '\\n').replace(/"/g, '\\"')}"`,
  );
  return parts.length === 0 ? '' : `{${parts.join(',')}}`;
}

function escapeHelp(help: string): string {
  return help.replace(/\\/g, '\\\\').replace(/\n/g, '\\n');
}

function numberText(value: number): string {
  if (value === Infinity) return '+Inf';
  return value === -Infinity ? '-Inf' : String(value);
}
