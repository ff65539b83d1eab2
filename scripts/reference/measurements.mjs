/**
 * docs/measurements/results.md and its picture, and the table of results in README.md: from the results that
 * `npm run measure` keeps in docs/measurements/results/.
 */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { picture } from './goals-picture.mjs';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));

/** Where results are kept, one file each. */
export const RESULTS = 'docs/measurements/results';

/** In the order of the page: a name, the command as a person types it, the same for Node, and what a reader should know. */
export const MEASUREMENTS = [
  measurement(
    'goals',
    'Latency and rate',
    'goals',
    ['--rounds', '3'],
    [
      'Two processors for the client and all replicas, loopback, 64-byte operations, durability `memory`, the echo machine unless the row says otherwise.',
      'Each ratio compares with a program of the same shape that replicates nothing; the two take turns, and the ratio is the median over the rounds. [Performance](performance.md#the-goals) says how each row is measured.',
    ],
  ),
  measurement(
    'authentication',
    'Authentication',
    'authentication',
    ['--rounds', '5'],
    ['A cluster with keys beside one without, in turns.'],
  ),
  measurement(
    'chain',
    'The keyed chain',
    'authentication',
    ['--chain', '--rounds', '25', '--warmup', '1500ms', '--seconds', '1s'],
    [
      'Both clusters have keys. One chains its log with the keyed hash, the other with the hash of clusters without keys.',
    ],
  ),
  measurement(
    'durability',
    'Durability',
    'durability',
    [],
    ['Three replicas share one disk. [Durability](../operate/durability.md) says what each mode keeps.'],
  ),
  measurement(
    'failover',
    'Failover',
    'failover',
    [],
    [
      'Four operations are open all the time. The pause is the longest time between two commits, from just before the kill until the replica is back.',
    ],
  ),
  measurement(
    'failover-pairs',
    'Failover of two at once',
    'failover',
    ['--replicas', '5', '--victims', 'subsets'],
    ['Every pair of five replicas is killed once.'],
  ),
  measurement(
    'store',
    'The store',
    'store',
    [],
    ['Two clusters in turns, one at level 0 and one with the feature `store`. Read the ratios.'],
  ),
  measurement(
    'watches',
    'Watches',
    'watches',
    [],
    ['A replica is killed every five seconds, and one datagram in a hundred is lost at the client.'],
  ),
  measurement(
    'redis',
    'The Redis front end',
    'redis',
    [],
    [
      'The front end before a cluster of three, beside Redis alone, which replicates nothing, and beside Redis with two replicas and `WAIT 1` after each write. [Performance](performance.md#the-redis-front-end) says how each row is measured.',
    ],
  ),
  measurement(
    'locks',
    'Locks and leases',
    'locks',
    [],
    [
      'Holders are processes of their own, over three replicas on loopback. All share one clock, so the bound of the clocks is 0; `simulated` has clocks that are off, in virtual time.',
    ],
  ),
];

function measurement(name, title, bench, args, notes) {
  const command = `npm run bench:${bench}${args.length === 0 ? '' : ` -- ${args.join(' ')}`}`;
  return { name, title, command, program: [`dist/bench/${bench}.js`, ...args], notes };
}

/** Rows of the table in README.md: measurement, row, words. */
const OF_README = [
  ['goals', 'one-adaptive', 'p50, one in flight, adaptive polling ÷ C program that sleeps'],
  ['goals', 'one-busy', 'p50, one in flight, always polling ÷ C program that polls'],
  ['goals', 'one-dgram', 'p50, one in flight, over `dgram` ÷ bare `dgram` program'],
  ['goals', 'native-512', 'rate, 512 in flight; p99'],
  ['goals', 'native-512-c', 'the same, Ethernet-sized datagrams: rate ÷ C program'],
  ['goals', 'clients-10k', 'commits in one round trip, eight clients, 10,000/s'],
  ['failover', 'failover', 'pause after the primary is killed, 50 kills: median; worst'],
];
const README_FROM = '<!-- results: written by npm run docs:reference -->';
const README_TO = '<!-- end of results -->';

/** The results that are there, by name. Throws Error if a file is not what `npm run measure` writes. */
function results() {
  const found = new Map();
  for (const { name } of MEASUREMENTS) {
    const path = join(ROOT, RESULTS, `${name}.json`);
    if (!existsSync(path)) continue;
    const kept = JSON.parse(readFileSync(path, 'utf8'));
    if (kept.schema !== 'jitpaxos.measurement/1' || kept.name !== name || !Array.isArray(kept.result?.rows))
      throw new Error(`${RESULTS}/${name}.json is no result; write it anew: npm run measure -- ${name}`);
    found.set(name, kept);
  }
  return found;
}

const verdict = ({ holds }) => (holds ? 'met' : '**missed**');

function section({ title, command, notes }, { commit, date, loadBefore, result }) {
  const { cpu, cores, kernel, node } = result.host;
  return [
    `## ${title}`,
    '',
    ...notes,
    '',
    `\`${command}\`, commit ${commit}, ${date}, ${Math.round(result.seconds)} s on ${cores} × ${cpu}, Linux ${kernel}, Node ${node}; load average ${loadBefore.toFixed(1)} before.`,
    '',
    '| row | measures | goal | measured | |',
    '| --- | --- | --- | --- | --- |',
    ...result.rows.map((row) => `| \`${row.name}\` | ${row.what} | ${row.goal} | ${row.measured} | ${verdict(row)} |`),
    '',
    ...result.rows.flatMap(({ name, note }) => (note === undefined ? [] : [`- \`${name}\`: ${note}.`])),
    ...(result.rows.some(({ note }) => note !== undefined) ? [''] : []),
    ...(result.tables ?? []).flatMap(tableOf),
  ];
}

/** Figures without a goal. */
function tableOf({ title, columns, rows }) {
  const line = (cells) => `| ${cells.join(' | ')} |`;
  return [`${title}:`, '', line(columns), line(columns.map(() => '---')), ...rows.map(line), ''];
}

/** The picture's path and text, and the page's. */
export function resultsPages() {
  const found = results();
  const shown = MEASUREMENTS.filter(({ name }) => found.has(name));
  const rows = shown.flatMap(({ name }) =>
    found.get(name).result.rows.map((row) => ({ ...row, name: name === 'failover-pairs' ? name : row.name })),
  );
  const page = [
    '# Results',
    '',
    '<!-- Written by scripts/reference-docs.mjs from docs/measurements/results/*.json. Do not edit: measure again (`npm run measure`), then `npm run docs:reference`. -->',
    '',
    'Every goal that this project measures itself by, what was measured last, and the command and commit behind it. A missed goal stays in the table.',
    '',
    'Read ratios rather than rates: hosts differ, and this one is a virtual machine that others use at the same time.',
    '',
    `![Every goal, and how far what was measured lies from it](results.svg)`,
    '',
    ...shown.flatMap((each) => section(each, found.get(each.name))),
  ].join('\n');
  return [
    ['docs/measurements/results.md', `${page.trimEnd()}\n`],
    ['docs/measurements/results.svg', picture(rows)],
  ];
}

/** README.md with its table of results as it should be. Throws Error if the markers or a row are missing. */
export function readmePage() {
  const path = join(ROOT, 'README.md');
  const text = readFileSync(path, 'utf8');
  const [from, to] = [text.indexOf(README_FROM), text.indexOf(README_TO)];
  if (from < 0 || to < from) throw new Error(`README.md has no "${README_FROM}" before a "${README_TO}"`);
  const found = results();
  const rows = OF_README.map(([name, rowName, words]) => {
    const row = found.get(name)?.result.rows.find((each) => each.name === rowName);
    if (row === undefined) throw new Error(`${RESULTS}/${name}.json has no row ${rowName}; npm run measure -- ${name}`);
    return `| ${words} | ${row.measured} | ${row.goal} | ${verdict(row)} |`;
  });
  const table = ['| measured | result | goal | |', '| --- | --- | --- | --- |', ...rows];
  return ['README.md', `${text.slice(0, from + README_FROM.length)}\n\n${table.join('\n')}\n\n${text.slice(to)}`];
}
