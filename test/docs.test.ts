// The documentation holds together: the index is complete, links and anchors resolve, and what the source names exists.
import t from 'tap';
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { DEFAULT_LIMITS } from '../src/protocol/config.js';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const ROOMS = ['start', 'operate', 'reference', 'internals', 'measurements'];
const README_WORDS_MAX = 900;
const SKIPPED = new Set(['node_modules', 'dist', 'build', '.git', '.tap']);
/** A page of another project. */
const FOREIGN = new Set(['docs/PROTOCOL.md']);

function filesBelow(folder: string): string[] {
  return readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    if (SKIPPED.has(entry.name)) return [];
    const path = join(folder, entry.name);
    return entry.isDirectory() ? filesBelow(path) : entry.isFile() ? [path] : [];
  });
}

const files = filesBelow(ROOT).map((path) => relative(ROOT, path));
const pages = files.filter((path) => path.endsWith('.md'));
const read = (path: string): string => readFileSync(join(ROOT, path), 'utf8');
const withoutCode = (text: string): string => text.replace(/^(```|~~~)[^]*?^\1/gm, '').replace(/`[^`\n]*`/g, '``');

function headings(text: string): string[] {
  const prose = text.replace(/^(```|~~~)[^]*?^\1/gm, '');
  return [...prose.matchAll(/^#{1,6} (.*)$/gm)].map(([, heading]) => heading!.replace(/\[([^\]]*)\]\([^)]*\)/g, '$1'));
}

/** The anchors of a page, as GitHub makes them from its headings. */
function anchors(text: string): Set<string> {
  const found = new Set<string>();
  for (const heading of headings(text)) {
    const slug = heading
      .toLowerCase()
      .replace(/[^\p{L}\p{N}\s_-]/gu, '')
      .replace(/\s/g, '-');
    let anchor = slug;
    for (let i = 1; found.has(anchor); i++) anchor = `${slug}-${i}`;
    found.add(anchor);
  }
  return found;
}

function* links(page: string): Generator<{ target: string; path: string; anchor: string | undefined }> {
  for (const [, target] of withoutCode(read(page)).matchAll(/\]\(([^)\s]+)\)/g)) {
    if (/^[a-z]+:/.test(target!)) continue;
    const [path, anchor] = target!.split('#');
    yield { target: target!, path: path === '' ? page : join(dirname(page), path!), anchor };
  }
}

t.test('every link and every anchor in a page leads somewhere', (t) => {
  const wrong: string[] = [];
  let count = 0;
  for (const page of pages) {
    for (const { target, path, anchor } of links(page)) {
      count++;
      if (!existsSync(join(ROOT, path))) wrong.push(`${page}: ${target} does not exist`);
      else if (anchor !== undefined && !anchors(read(path)).has(anchor))
        wrong.push(`${page}: ${target}, no such heading`);
    }
  }
  t.same(wrong, []);
  t.ok(count > 100, `${count} links were followed`);
  t.end();
});

t.test('docs/README.md names every page once, with a line about it', (t) => {
  const rows = [...read('docs/README.md').matchAll(/^\| \[[^\]]+\]\(([^)]+\.md)\) \| (.+) \|$/gm)];
  const named = rows.map(([, target]) => join('docs', target!));
  t.same(
    named.sort(),
    pages.filter((page) => page.startsWith('docs/') && page !== 'docs/README.md').sort(),
    'rows of the index, and pages below docs/',
  );
  t.end();
});

t.test('pages stand in five folders', (t) => {
  const folders = readdirSync(join(ROOT, 'docs')).filter((name) => statSync(join(ROOT, 'docs', name)).isDirectory());
  t.same(folders.sort(), [...ROOMS].sort());
  t.same(
    pages.filter((page) => /^docs\/[^/]+$/.test(page)),
    ['docs/README.md'],
  );
  t.end();
});

t.test('what the source names below docs/ exists, and so does the heading that it names', (t) => {
  const wrong: string[] = [];
  let count = 0;
  const sources = files.filter((path) => /\.(ts|mjs|cc|h|json|jsonc|yaml|service|md)$/.test(path));
  for (const file of sources) {
    const mentions = read(file).matchAll(/(?<![\w/.-])docs\/[\w/-]+\.(?:md|svg|png)(?:, \\?"([^"\\]+)\\?")?/g);
    for (const [mention, heading] of mentions) {
      const path = mention.split(',')[0]!;
      if (FOREIGN.has(path)) continue;
      count++;
      if (!existsSync(join(ROOT, path))) wrong.push(`${file}: ${path} does not exist`);
      else if (heading !== undefined && !headings(read(path)).some((each) => each.replace(/`/g, '') === heading))
        wrong.push(`${file}: ${path} has no heading "${heading}"`);
    }
  }
  t.same(wrong, []);
  t.ok(count > 50, `${count} mentions were followed`);
  t.end();
});

t.test(`the README has at most ${README_WORDS_MAX} words`, (t) => {
  const words = read('README.md')
    .split(/\s+/)
    .filter((word) => /[\p{L}\p{N}]/u.test(word));
  t.ok(words.length > 300 && words.length <= README_WORDS_MAX, `${words.length} words`);
  t.end();
});

t.test('source files that a page names exist', (t) => {
  const wrong: string[] = [];
  let count = 0;
  // The changelog and the measurements speak of the code as it was.
  for (const page of pages.filter((each) => each !== 'CHANGELOG.md' && !each.startsWith('docs/measurements/'))) {
    for (const [, path] of read(page).matchAll(
      /`((?:src|test|native|scripts|bench|examples|model|deploy)\/[\w/.-]+)`/g,
    )) {
      count++;
      if (!existsSync(join(ROOT, path!))) wrong.push(`${page}: ${path}`);
    }
  }
  t.same(wrong, []);
  t.ok(count > 100, `${count} paths were looked up`);
  t.end();
});

t.test('the limits page has every limit of a cluster file, with its default', (t) => {
  const page = read('docs/reference/limits.md');
  for (const [name, value] of Object.entries(DEFAULT_LIMITS)) {
    const text = !name.endsWith('Bytes')
      ? value.toLocaleString('en')
      : value < 1 << 20
        ? `${value >> 10} KiB`
        : `${value >> 20} MiB`;
    t.ok(page.includes(`\`${name}\` (${text})`), `${name}, ${text}`);
  }
  t.end();
});

t.test('the table of rooms in the architecture page has every room of src/', (t) => {
  const rows = [...read('docs/internals/architecture.md').matchAll(/^\| `([\w-]+(?:\/|\.ts))` \| .* \| .* \|$/gm)];
  const rooms = readdirSync(join(ROOT, 'src'), { withFileTypes: true }).map(
    (entry) => entry.name + (entry.isDirectory() ? '/' : ''),
  );
  t.same(rows.map(([, room]) => room!).sort(), rooms.sort());
  t.end();
});
