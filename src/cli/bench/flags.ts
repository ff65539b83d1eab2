/** Flags that `bench latency` and `bench load` share: what they measure, how long an operation may take, what they write. */
import { DURABILITY_FLAG } from '../../console/durability-flag.js';
import { CliError } from '../../console/exit.js';
import type { Flags } from '../../console/flags.js';
import { checkDistinct, checkNew, checkWritable } from '../../console/output-file.js';
import { KEY_FILE_FLAG } from '../../console/settings.js';
import { TRANSPORT_FLAGS } from '../../console/transport-flags.js';
import { BENCH_PREFIX } from '../../measure/load/bench-keys.js';
import { KEYS_MAX, TIMEOUT_NS_MAX } from '../../measure/load/load-bounds.js';
import { QUESTIONS_PER_SECOND } from '../../measure/oneway/second.js';
import { VALUE_TAG_BYTES } from '../../measure/load/operations.js';

/** The cluster that is measured. */
export const TARGET_FLAGS = {
  local: {
    kind: 'count',
    value: 'N',
    min: 1,
    max: 13,
    help: 'start this many replicas on loopback for the measurement (default 3)',
  },
  cluster: {
    kind: 'text',
    value: 'FILE',
    help: `measure this running cluster instead. With --machine kv, keys under ${BENCH_PREFIX} are written to its store and removed at the end`,
  },
  'key-file': KEY_FILE_FLAG,
  ...TRANSPORT_FLAGS,
  durability: DURABILITY_FLAG,
} as const satisfies Flags;

/** The flag `--machine`, with the command's own default. */
export const machineFlag = <const Default extends 'echo' | 'kv'>(machine: Default) =>
  ({
    kind: 'choice',
    choices: ['echo', 'kv'],
    default: machine,
    help: 'the state machine; a running cluster must use the same',
  }) as const;

/** The flag `--mix`, with the command's own default and example. */
export const mixFlag = <const Default extends string>(mix: Default, example: string) =>
  ({
    kind: 'text',
    value: example,
    default: mix,
    help: 'shares of the operations: read, write, and cas (kv only)',
  }) as const;

/** What is asked of the machine, besides `--machine`, `--mix` and `--size`. */
export const OPERATION_FLAGS = {
  keys: { kind: 'count', default: '1000', min: 1, max: KEYS_MAX, help: 'number of different keys (kv)' },
  timeout: { kind: 'duration', default: '5s', min: 1e6, max: TIMEOUT_NS_MAX, help: 'how long an operation may take' },
} as const satisfies Flags;

/** What is written besides what is printed, and what else is measured. */
export const OUTPUT_FLAGS = {
  history: { kind: 'text', value: 'FILE', help: 'write every operation for a checker (kv)' },
  'one-way': {
    kind: 'switch',
    help: `also measure one-way delays: asks each replica ${QUESTIONS_PER_SECOND} times a second, beside the load, when the question arrived and when the answer left`,
  },
  hgrm: { kind: 'text', value: 'FILE', help: 'write the percentiles in the format of HdrHistogram' },
  hlog: {
    kind: 'text',
    value: 'FILE',
    help: 'write a histogram of every second by operation and outcome, as a log of HdrHistogram, to a file that does not exist yet; bench merge adds several',
  },
  report: { kind: 'text', value: 'FILE', help: 'write the report as one HTML file' },
} as const satisfies Flags;

/** Throws CliError `flag-invalid` or `file-exists` if a file of OUTPUT_FLAGS cannot be written, or would replace another. */
export function checkOutputs({
  report,
  hgrm,
  hlog,
  history,
}: Readonly<Record<Exclude<keyof typeof OUTPUT_FLAGS, 'one-way'>, string | undefined>>): void {
  for (const [flag, path] of Object.entries({ report, hgrm, history })) checkWritable(flag, path);
  checkNew('hlog', hlog);
  checkDistinct({ report, hgrm, hlog, history });
}

/** The flag `--assert`. */
export const assertFlag = (note = '') =>
  ({
    kind: 'text',
    value: 'EXPR',
    many: true,
    help: `exit with 4 unless this holds, like 'p99<150us' or 'fastPathRatio>0.99'. May be repeated${note}`,
  }) as const;

/** Throws CliError `flag-invalid` if the flags do not name one cluster of an odd number of replicas. */
export function checkTarget({ local, cluster }: { local: number | undefined; cluster: string | undefined }): void {
  if (local !== undefined && cluster !== undefined)
    throw new CliError('flag-invalid', '--local and --cluster exclude each other; give one');
  if (local !== undefined && local % 2 === 0)
    throw new CliError('flag-invalid', `--local ${local} is even; a cluster has an odd number of replicas`);
}

/** Throws CliError `flag-invalid` if a history was asked for whose values could not be told apart. */
export function checkHistoryFlag(history: string | undefined, machine: string, smallest: number): void {
  if (history === undefined || (machine === 'kv' && smallest >= VALUE_TAG_BYTES)) return;
  throw new CliError(
    'flag-invalid',
    `--history needs --machine kv and a --size of at least ${VALUE_TAG_BYTES}, so that values differ; add them`,
  );
}
