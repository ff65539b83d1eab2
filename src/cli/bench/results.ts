/** Results that benches wrote with --json, as `bench report` and `bench merge` read them: files may come from anybody. */
import { basename } from 'node:path';
import { checkedOneWay } from '../../measure/oneway/checked.js';
import { Histogram } from '../../metrics/histogram.js';
import { CliError } from '../../console/exit.js';
import type { BenchReport } from '../../measure/load/bench-report.js';
import { readRegularText } from '../../storage/regular-file.js';

/** Most bytes of a result, which grows with the seconds of its timeline. */
const RESULT_BYTES_MAX = 1 << 28;

/** Throws CliError `argument-invalid` for anything but a result of a bench. */
export function readReport(path: string): BenchReport {
  const refuse = (why: string): CliError =>
    new CliError('argument-invalid', `${path} ${why}; give a file that a bench wrote with --json`);
  let value: BenchReport | null;
  try {
    value = JSON.parse(readRegularText(path, undefined, RESULT_BYTES_MAX)) as BenchReport | null;
  } catch (error) {
    throw refuse(
      error instanceof SyntaxError
        ? `is not JSON (${error.message})`
        : `cannot be read (${error instanceof Error ? error.message : String(error)})`,
    );
  }
  if (value?.schema !== 'jitpaxos.bench/1')
    throw refuse(`is not a result of a bench: its schema is ${JSON.stringify(value?.schema)}, not "jitpaxos.bench/1"`);
  if ('points' in value) throw refuse('is a result of bench compare, which already compares');
  try {
    const numbers = [
      value.opsPerSecond,
      value.operations,
      value.seconds,
      ...Object.values(value.latencyNs).filter((latency) => latency !== null),
    ];
    if (!numbers.every(Number.isFinite)) throw new TypeError('a figure is not a number');
    for (const data of [value.histogram, value.load?.serviceHistogram])
      if (data !== undefined) Histogram.fromData(data);
    if (value.oneWay !== undefined)
      value = { ...value, oneWay: { ...value.oneWay, replicas: checkedOneWay(value.oneWay.replicas) } };
  } catch (error) {
    throw refuse(`is damaged (${error instanceof Error ? error.message : String(error)})`);
  }
  return value;
}

/** A field missing from a damaged file shows only when it is drawn. */
export function rendered<T>(draw: () => T, paths: readonly string[]): T {
  try {
    return draw();
  } catch (error) {
    if (error instanceof CliError) throw error;
    throw new CliError(
      'argument-invalid',
      `${paths.join(', ')}: a result lacks a field (${error instanceof Error ? error.message : String(error)}); measure again with this version`,
    );
  }
}

/** Runs are named by their files, and numbered if these have the same name. */
export function nameOf(path: string, paths: readonly string[], index: number): string {
  const name = withoutEnding(path);
  return paths.some((other, at) => at !== index && withoutEnding(other) === name) ? `${name} (${index + 1})` : name;
}

function withoutEnding(path: string): string {
  return basename(path).replace(/\.(json|hlog)$/, '');
}
