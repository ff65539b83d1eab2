// The rules of the source tree: layers, purity of the core, sizes, error codes and their documentation.
import t from 'tap';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const SRC = join(ROOT, 'src');
const LINES_MAX = 1050;

/** Folder (or file directly in src/) → what it may import besides itself. `type:` allows a type-only import. */
const LAYERS: Readonly<Record<string, readonly string[]>> = {
  wire: [],
  native: [],
  machine: ['wire', 'errors.ts'],
  metrics: [],
  'errors.ts': [],
  protocol: ['wire', 'errors.ts', 'type:machine'],
  transport: ['native', 'wire', 'errors.ts', 'type:protocol'],
  storage: ['native', 'wire', 'errors.ts', 'protocol'],
  clock: ['native', 'wire', 'errors.ts'],
  host: ['native', 'wire', 'errors.ts', 'protocol', 'transport', 'clock', 'metrics', 'storage'],
  server: ['native', 'wire', 'errors.ts', 'protocol', 'transport', 'clock', 'metrics', 'storage', 'machine', 'host'],
  client: ['native', 'wire', 'errors.ts', 'protocol', 'transport', 'clock', 'metrics', 'machine', 'host'],
  redis: ['wire', 'errors.ts', 'storage', 'metrics', 'machine', 'host', 'client'],
  sim: ['native', 'wire', 'errors.ts', 'protocol', 'machine'],
  console: ['native', 'errors.ts', 'transport', 'clock', 'storage', 'host'],
  measure: [
    'native',
    'wire',
    'errors.ts',
    'protocol',
    'transport',
    'clock',
    'metrics',
    'storage',
    'machine',
    'host',
    'server',
    'client',
    'console',
    'sim',
  ],
  testing: ['errors.ts', 'machine', 'host', 'server', 'client', 'sim'],
  'index.ts': [
    'redis',
    'client',
    'server',
    'host',
    'protocol',
    'wire',
    'transport',
    'storage',
    'clock',
    'metrics',
    'machine',
    'native',
    'errors.ts',
    'sim',
  ],
  cli: [
    'redis',
    'measure',
    'console',
    'client',
    'server',
    'host',
    'sim',
    'protocol',
    'wire',
    'transport',
    'storage',
    'clock',
    'metrics',
    'machine',
    'native',
    'errors.ts',
    'index.ts',
  ],
};

/**
 * Rooms of src/protocol (a folder, or a file that is one by itself) → the rooms that each may import besides itself, types included.
 * From the bottom up: a room names only rooms above its own line, so there is no circle between them.
 * Two files of replica/ are rooms by themselves. They are the door of the replica: they drive agreement/, views/ and suspicion/, which
 * are built on the rest of that folder (state, sender, outbox). They stand there because that is where a reader looks for them.
 */
const ROOMS: Readonly<Record<string, readonly string[]>> = {
  protocol: [],
  'protocol/membership': ['protocol'],
  'protocol/log': ['protocol', 'protocol/membership'],
  'protocol/client': ['protocol', 'protocol/membership', 'protocol/log'],
  'protocol/replica': ['protocol', 'protocol/membership', 'protocol/log'],
  'protocol/replica/membership': ['protocol', 'protocol/membership', 'protocol/log', 'protocol/replica'],
  'protocol/replica/agreement': ['protocol', 'protocol/log', 'protocol/replica'],
  'protocol/replica/views': [
    'protocol',
    'protocol/log',
    'protocol/replica',
    'protocol/replica/membership',
    'protocol/replica/agreement',
  ],
  'protocol/replica/suspicion': [
    'protocol',
    'protocol/log',
    'protocol/replica',
    'protocol/replica/membership',
    'protocol/replica/agreement',
    'protocol/replica/views',
  ],
  'protocol/replica/requests.ts': [
    'protocol',
    'protocol/membership',
    'protocol/log',
    'protocol/replica',
    'protocol/replica/agreement',
    'protocol/replica/suspicion',
  ],
  'protocol/replica/replica-core.ts': [
    'protocol',
    'protocol/log',
    'protocol/replica',
    'protocol/replica/membership',
    'protocol/replica/agreement',
    'protocol/replica/views',
    'protocol/replica/suspicion',
    'protocol/replica/requests.ts',
  ],
};

/** The protocol core may name none of these: time, chance and I/O come in as arguments. */
const IMPURE =
  /\b(Date|Math\s*\.\s*random|process|setTimeout|setInterval|setImmediate|queueMicrotask|performance|Promise|async|await|Buffer|globalThis|require)\b/;

interface Import {
  readonly specifier: string;
  readonly typeOnly: boolean;
}

interface SourceFile {
  readonly path: string;
  readonly text: string;
  /** Without comments. */
  readonly code: string;
  readonly imports: readonly Import[];
}

function sourcesBelow(folder: string, extension = '.ts'): SourceFile[] {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && entry.name.endsWith(extension))
    .map((entry) => read(join(entry.parentPath ?? entry.path, entry.name)));
}

function read(path: string): SourceFile {
  const text = readFileSync(path, 'utf8');
  return { path, text, code: withoutComments(text), imports: importsOf(withoutComments(text)) };
}

/** Good enough for our own style: strings keep their content, comments go. */
function withoutComments(text: string): string {
  return text.replace(
    /('(?:\\.|[^'\\\n])*'|"(?:\\.|[^"\\\n])*"|`(?:\\.|[^`\\])*`)|\/\*[\s\S]*?\*\/|\/\/[^\n]*/g,
    (_, literal: string | undefined) => literal ?? '',
  );
}

function withoutStrings(code: string): string {
  return code.replace(/'(?:\\.|[^'\\\n])*'|"(?:\\.|[^"\\\n])*"/g, "''");
}

function importsOf(code: string): Import[] {
  const found: Import[] = [];
  for (const match of code.matchAll(/^\s*(?:import|export)\s+(type\s+)?(?:[^'";]*?\sfrom\s+)?'([^']+)'/gm))
    found.push({ specifier: match[2]!, typeOnly: match[1] !== undefined });
  for (const match of code.matchAll(/\bimport\(\s*'([^']+)'\s*\)/g))
    found.push({ specifier: match[1]!, typeOnly: false });
  return found;
}

/** The layer of a file below src/: its folder, or its name. */
function layerOf(path: string): string {
  return relative(SRC, path).split(/[\\/]/)[0]!;
}

/** What is wrong with the file's imports, as sentences. */
function upwardImports(file: SourceFile): string[] {
  const own = layerOf(file.path);
  const allowed = LAYERS[own];
  if (allowed === undefined)
    return [`${relative(ROOT, file.path)}: the layer "${own}" is not in this test's table; add it where it belongs`];
  const wrong: string[] = [];
  for (const { specifier, typeOnly } of file.imports) {
    if (!specifier.startsWith('.')) continue;
    const target = layerOf(resolve(dirname(file.path), specifier.replace(/\.js$/, '.ts')));
    const fine = target === own || allowed.includes(target) || (typeOnly && allowed.includes(`type:${target}`));
    if (!fine) wrong.push(`${relative(ROOT, file.path)} imports ${specifier}: ${own} may not import ${target}`);
  }
  return wrong;
}

/** The room of a file below src/protocol/: itself, or the folder that it stands in. */
function roomOf(path: string): string {
  const file = relative(SRC, path).replaceAll('\\', '/');
  return file in ROOMS ? file : dirname(file);
}

/** Imports of a file of the protocol that its room may not have, as sentences. */
function importsAcrossRooms(file: SourceFile): string[] {
  const own = roomOf(file.path);
  const allowed = ROOMS[own];
  if (allowed === undefined)
    return [`${relative(ROOT, file.path)}: the room "${own}" is not in this test's table; add it where it belongs`];
  return file.imports
    .filter(({ specifier }) => specifier.startsWith('.'))
    .map(({ specifier }) => resolve(dirname(file.path), specifier.replace(/\.js$/, '.ts')))
    .filter((target) => layerOf(target) === 'protocol' && roomOf(target) !== own && !allowed.includes(roomOf(target)))
    .map((target) => `${relative(ROOT, file.path)} imports ${relative(SRC, target)}: ${own} may not import that room`);
}

/** What suspicion may call of the state of a replica; everything else there either is read or is a rule's business. */
const STATE_CALLS = new Set(['transition', 'noteLost']);

/** Where a file of suspicion/ writes state that carries safety, or touches the log beyond where it ends, as sentences. */
function writesOfState(file: SourceFile): string[] {
  const code = withoutStrings(file.code);
  const found = [
    ...[...code.matchAll(/\bstate(?:\.\w+)+\s*(?:=(?![=>])|[-+*/|&^]=|\+\+|--)/g)].map(([text]) => text),
    ...[...code.matchAll(/(?:\+\+|--)\s*(?:this\.)?state(?:\.\w+)+(?![.\w[])/g)].map(([text]) => text),
    ...[...code.matchAll(/\bstate\.(\w+)\s*\(/g)].filter(([, name]) => !STATE_CALLS.has(name!)).map(([text]) => text),
    ...[...code.matchAll(/\blog\.(\w+)/g)].filter(([, name]) => name !== 'lastIndex').map(([text]) => text),
    ...[...code.matchAll(/\b(?:state|log)\s*\[|\b(?:appendEntry|installBase|execution|tail)\b/g)].map(([text]) => text),
  ];
  return found.map((text) => `${relative(ROOT, file.path)}: ${text.trim()}`);
}

/** Where a file writes a field of a replica's state, as sentences: it changes through its verbs only. */
function writesOfFields(file: SourceFile): string[] {
  const code = withoutStrings(file.code);
  return [
    ...code.matchAll(/\bstate(?:\.(?:others|out))?\.\w+\s*(?:=(?![=>])|[-+*/|&^]=|\+\+|--)/g),
    ...code.matchAll(/(?:\+\+|--)\s*(?:this\.)?state(?:\.(?:others|out))?\.\w+(?![.\w[])/g),
    ...code.matchAll(/\bstate\s*\[/g),
  ].map(([text]) => `${relative(ROOT, file.path)}: ${text.trim()}`);
}

function impurities(file: SourceFile): string[] {
  const wrong = file.imports
    .filter(({ specifier }) => !specifier.startsWith('.'))
    .map(
      ({ specifier }) =>
        `${relative(ROOT, file.path)} imports ${specifier}: the core imports nothing of Node or of packages`,
    );
  withoutStrings(file.code)
    .split('\n')
    .forEach((line, index) => {
      const match = IMPURE.exec(line);
      if (match !== null)
        wrong.push(`${relative(ROOT, file.path)}:~${index + 1} mentions ${match[0]}: it has to come in as an argument`);
    });
  return wrong;
}

const sources = sourcesBelow(SRC);

t.test('imports only point down', (t) => {
  t.ok(sources.length > 10, `${sources.length} source files were read`);
  t.same(sources.flatMap(upwardImports), []);
  t.end();
});

t.test('rooms of the protocol import each other in one direction', (t) => {
  const core = sources.filter((file) => layerOf(file.path) === 'protocol');
  t.ok(core.length > 40, `${core.length} files were read`);
  t.same(core.flatMap(importsAcrossRooms), []);
  const rooms = Object.keys(ROOMS);
  t.same(
    rooms.filter((room, at) => ROOMS[room]!.some((target) => rooms.indexOf(target) < 0 || rooms.indexOf(target) >= at)),
    [],
    'a room names only rooms that stand above it in the table',
  );
  t.same(
    rooms.filter((room) => !core.some((file) => roomOf(file.path) === room)),
    [],
    'every room of the table exists',
  );
  t.end();
});

t.test('suspicion writes neither view, logView, status nor log', (t) => {
  const files = sources.filter((file) => roomOf(file.path) === 'protocol/replica/suspicion');
  t.ok(files.length > 5, `${files.length} files were read`);
  t.same(files.flatMap(writesOfState), [], 'it asks ViewChanges for a promise; the rules decide');
  t.end();
});

t.test('the state of a replica is written by its verbs alone', (t) => {
  const files = sources.filter((file) => roomOf(file.path).startsWith('protocol/replica'));
  t.ok(files.length > 40, `${files.length} files were read`);
  t.same(files.flatMap(writesOfFields), [], 'replica-state.ts has a verb for each change, or gets one');
  t.end();
});

t.test('the protocol core imports no I/O and names no clock, chance or timer', (t) => {
  const core = sources.filter((file) => layerOf(file.path) === 'protocol' || layerOf(file.path) === 'wire');
  t.ok(core.length > 5, `${core.length} files of the core were read`);
  t.same(core.flatMap(impurities), []);
  t.end();
});

/**
 * Paths of files that import each other in a circle, a list for each circle; type imports count: who reads one of them
 * needs all.
 */
function circles(imports: ReadonlyMap<string, readonly string[]>): string[][] {
  const found: string[][] = [];
  const done = new Set<string>();
  const path: string[] = [];
  const visit = (file: string): void => {
    if (done.has(file)) return;
    const at = path.indexOf(file);
    if (at >= 0) return void found.push(path.slice(at));
    path.push(file);
    for (const target of imports.get(file) ?? []) visit(target);
    path.pop();
    done.add(file);
  };
  for (const file of imports.keys()) visit(file);
  return found;
}

t.test('no files import each other in a circle', (t) => {
  const imports = new Map(
    sources.map((file) => [
      relative(SRC, file.path),
      file.imports
        .filter(({ specifier }) => specifier.startsWith('.'))
        .map(({ specifier }) => relative(SRC, resolve(dirname(file.path), specifier.replace(/\.js$/, '.ts')))),
    ]),
  );
  t.ok([...imports.values()].flat().length > 100);
  t.same(circles(imports), []);
  t.same(
    circles(
      new Map([
        ['a', ['b']],
        ['b', ['c', 'd']],
        ['c', []],
        ['d', ['b']],
      ]),
    ),
    [['b', 'd']],
    'a circle is seen',
  );
  t.end();
});

/** Names that a file exports and declares itself, and whether they are types. */
function exportsOf(code: string): { readonly name: string; readonly isType: boolean }[] {
  return [
    ...code.matchAll(/^export\s+(?:abstract\s+|async\s+)*(class|function\*?|const|let|interface|type|enum)\s+(\w+)/gm),
  ].map((match) => ({ name: match[2]!, isType: match[1] === 'interface' || match[1] === 'type' }));
}

t.test('what is exported is used elsewhere; a type may only be part of what is', (t) => {
  const users = [
    ...sources,
    ...['test', 'bench', 'examples'].flatMap((folder) => sourcesBelow(join(ROOT, folder))),
    ...sourcesBelow(join(ROOT, 'scripts'), '.mjs'),
  ];
  const words = new Map(users.map((file) => [file.path, file.code.match(/\w+/g) ?? []]));
  const sets = new Map([...words].map(([path, list]) => [path, new Set(list)]));
  const isDead = (path: string, { name, isType }: { name: string; isType: boolean }): boolean => {
    if (isType && words.get(path)!.filter((word) => word === name).length > 1) return false;
    return !users.some((user) => user.path !== path && sets.get(user.path)!.has(name));
  };
  const dead = sources.flatMap((file) =>
    exportsOf(file.code)
      .filter((one) => isDead(file.path, one))
      .map(({ name }) => `${relative(ROOT, file.path)}: ${name}`),
  );
  t.same(dead, [], 'exports that nothing else names: take the word export away');
  t.same(
    exportsOf(
      'export const a = 1;\nexport abstract class B {}\nexport async function c() {}\nconst d = 1;\nexport type E = 1;',
    ).map(({ name }) => name),
    ['a', 'B', 'c', 'E'],
  );
  t.end();
});

/**
 * Where the wall clock is read: to show a time to people, as the clock that `realtime-js` is, to compare it with the
 * timestamps of a backup, and to notice that the host was suspended. It is set at times; a duration by it may take an hour, or none.
 */
const WALL_CLOCK = [
  'cli/backup.ts',
  'cli/main.ts',
  'client/lease-clock.ts',
  'clock/javascript-clock.ts',
  'host/logger.ts',
];

t.test('no duration is measured by the wall clock', (t) => {
  const readers = sources
    .filter((file) => /\bDate\.now\b|\btimeOrigin\b|new Date\(\)\.getTime/.test(withoutStrings(file.code)))
    .map((file) => relative(SRC, file.path).replaceAll('\\', '/'));
  t.same(readers.sort(), WALL_CLOCK, 'performance.now() is never set; a file that shows the time is added here');
  t.end();
});

t.test('the checks above see what they are for', (t) => {
  const made = (path: string, text: string): SourceFile => ({
    path: join(SRC, path),
    text,
    code: withoutComments(text),
    imports: importsOf(withoutComments(text)),
  });
  t.equal(upwardImports(made('protocol/a.ts', "import { x } from '../server/replica.js';")).length, 1);
  t.equal(
    upwardImports(made('protocol/a.ts', "import { x } from '../machine/kv.js';")).length,
    1,
    'a value of the machines',
  );
  t.equal(
    upwardImports(
      made(
        'protocol/a.ts',
        "import type { x } from '../machine/state-machine.js';\nimport { y } from '../wire/u64.js';",
      ),
    ).length,
    0,
  );
  t.equal(upwardImports(made('wire/a.ts', "export * from '../protocol/views.js';")).length, 1, 'a re-export');
  t.equal(
    upwardImports(made('wire/a.ts', "const x = await import('../protocol/views.js');")).length,
    1,
    'a dynamic import',
  );
  t.equal(
    upwardImports(made('wire/a.ts', "import {\n  a,\n  b,\n} from '../protocol/views.js';")).length,
    1,
    'an import over several lines',
  );
  t.equal(upwardImports(made('elsewhere/a.ts', '')).length, 1, 'a layer without a place');
  for (const [path, specifier, wrong] of [
    ['protocol/replica/agreement/a.ts', '../suspicion/b.js', 1],
    ['protocol/replica/views/a.ts', '../suspicion/b.js', 1],
    ['protocol/replica/a.ts', './requests.js', 1],
    ['protocol/log/a.ts', '../replica/b.js', 1],
    ['protocol/elsewhere/a.ts', '../config.js', 1],
    ['protocol/replica/suspicion/a.ts', '../views/b.js', 0],
    ['protocol/replica/requests.ts', './agreement/b.js', 0],
    ['protocol/replica/agreement/a.ts', '../../../wire/u64.js', 0],
  ] as const)
    t.equal(
      importsAcrossRooms(made(path, `import type { x } from '${specifier}';`)).length,
      wrong,
      `${path}: ${specifier}`,
    );
  for (const line of [
    'this.state.view = 1;',
    'state.logView++;',
    '++state.committed;',
    'state.met |= 1;',
    'state.promise(2);',
    'state.commitTo(1);',
    'log.truncate(1);',
    'this.state.log.append(x);',
    "state['presentView'] = 1;",
    'state.execution.rewind(1);',
  ])
    t.equal(writesOfState(made('protocol/replica/suspicion/a.ts', line)).length > 0, true, line);
  for (const line of [
    'complaint.view = state.view;',
    'if (state.view === 1 || state.status >= x) f();',
    'state.counters[1]!++;',
    "state.transition('a', 'state.view = 1');",
    'state.views.next(state.view, 1);',
    'const mask = state.isPrimary ? 1 : state.log.lastIndex;',
  ])
    t.same(writesOfState(made('protocol/replica/suspicion/a.ts', line)), [], line);
  for (const line of [
    'this.state.alone = true;',
    'state.others.met |= 1;',
    'state.neededFrom = needed;',
    'state.out.dirty = true;',
    '--this.state.committed;',
    "state['isEcho'] = true;",
  ])
    t.equal(writesOfFields(made('protocol/replica/a.ts', line)).length, 1, line);
  for (const line of [
    'state.counters[1]!++;',
    'state.append(entry);',
    'if (state.alone === true) f();',
    'x = state.met;',
  ])
    t.same(writesOfFields(made('protocol/replica/a.ts', line)), [], line);
  t.equal(impurities(made('protocol/a.ts', "import { readFileSync } from 'node:fs';")).length, 1);
  for (const line of [
    'Date.now()',
    'Math.random()',
    'process.exit(1)',
    'setTimeout(f, 1)',
    'performance.now()',
    'new Promise(f)',
    'async () => 1',
  ]) {
    t.equal(impurities(made('protocol/a.ts', `const x = ${line};`)).length, 1, line);
  }
  t.equal(
    impurities(made('protocol/a.ts', "// Date\n/* Promise */ const process_ = 'process';")).length,
    0,
    'comments, strings and longer names are free',
  );
  t.end();
});

t.test('no source file is too long, and none is left unfinished', (t) => {
  const all = [...sources, ...sourcesBelow(join(ROOT, 'test')), ...sourcesBelow(join(ROOT, 'bench'))];
  t.same(
    all.filter((file) => file.text.split('\n').length > LINES_MAX).map((file) => relative(ROOT, file.path)),
    [],
    `files of more than ${LINES_MAX} lines: split them by subject`,
  );
  t.same(
    all.filter((file) => /\b(TO[D]O|FIX[M]E|XX[X])\b/.test(file.text)).map((file) => relative(ROOT, file.path)),
    [],
    'files that say that something is left to do',
  );
  t.end();
});

t.test('every error code is documented, and nothing else is', async (t) => {
  const docs = join(ROOT, 'docs', 'reference', 'errors.md');
  t.ok(existsSync(docs), 'docs/reference/errors.md exists');
  if (!existsSync(docs)) return;
  const documented = new Set(
    [...readFileSync(docs, 'utf8').matchAll(/^\| `([a-z][a-z-]*)` \|/gm)].map((match) => match[1]!),
  );
  const codes = await errorCodes();
  t.ok(codes.size > 20, `${codes.size} codes were found`);
  t.same(
    [...codes].filter((code) => !documented.has(code)),
    [],
    'codes without a row `| `code` |` in docs/reference/errors.md',
  );
  t.same(
    [...documented].filter((code) => !codes.has(code)),
    [],
    'rows of docs/reference/errors.md for codes that do not exist',
  );
});

/** A class of errors of its own: the base of all, and what the simulator throws for itself to catch. */
const OWN_ERRORS = ['errors.ts: JitPaxosError', 'sim/violation.ts: Violation'];

t.test('every error class extends JitPaxosError', (t) => {
  const own = sources.flatMap((file) =>
    [...file.code.matchAll(/\bclass (\w+) extends \w*Error\b/g)]
      .filter(([declaration]) => !declaration.endsWith('extends JitPaxosError'))
      .map(([, name]) => `${relative(SRC, file.path).replaceAll('\\', '/')}: ${name}`),
  );
  t.same(own.sort(), OWN_ERRORS);
  t.end();
});

/** Words with hyphens in backquotes, as codes are written, of a sentence that begins with "Throws" and names an error class. */
function codesNamed(comment: string): string[] {
  return [...comment.matchAll(/\bThrows\b[^.]*?\w+Error\b[^.]*/g)].flatMap(([sentence]) =>
    [...sentence.matchAll(/`([a-z]+(?:-[a-z]+)+)`/g)].map((match) => match[1]!),
  );
}

t.test('docstrings name codes that exist, and all that their file throws', async (t) => {
  const codes = await errorCodes();
  const comments = sources.flatMap((file) =>
    [...file.text.matchAll(/\/\*\*[\s\S]*?\*\//g)].map((match) => ({
      file,
      comment: match[0].replace(/\s*\n \*\s*/g, ' '),
    })),
  );
  const named = comments.flatMap(({ file, comment }) =>
    codesNamed(comment).map((code) => ({ path: relative(ROOT, file.path), code })),
  );
  t.ok(named.length > 50, `${named.length} codes are named`);
  t.same(
    named.filter(({ code }) => !codes.has(code)),
    [],
    'codes that do not exist',
  );
  t.same(codesNamed('/** Throws JitPaxosError `no-such-code`, and `no-other` of `code`. Then `no-more`. */'), [
    'no-such-code',
    'no-other',
  ]);
  const published = ['index.ts', 'testing/index.ts'].flatMap((entry) =>
    read(join(SRC, entry)).imports.map(({ specifier }) =>
      resolve(SRC, dirname(entry), specifier.replace(/\.js$/, '.ts')),
    ),
  );
  const silent = sources
    .filter((file) => published.includes(file.path))
    .flatMap((file) => {
      const said = comments
        .filter((one) => one.file === file)
        .map(({ comment }) => comment)
        .join('\n');
      const thrown = [...file.code.matchAll(/\bnew (?:JitPaxos|Clock|Kv)Error\(\s*'([a-z-]+)'/g)].map(
        (match) => match[1]!,
      );
      return [...new Set(thrown)]
        .filter((code) => !said.includes(`\`${code}\``))
        .map((code) => `${relative(ROOT, file.path)}: ${code}`);
    });
  t.same(silent, [], 'codes that a file of the public API throws and no docstring in it names');
});

/** The tables of codes, and what single classes and Object.assign say. */
async function errorCodes(): Promise<Set<string>> {
  const { COMMAND_ERRORS, ERRORS } = await import('../src/errors.js');
  const codes = new Set([...Object.keys(ERRORS), ...Object.keys(COMMAND_ERRORS)]);
  for (const file of sources) {
    for (const match of file.code.matchAll(/\b(?:readonly code = |code: )'([a-z][a-z-]*)'/g)) codes.add(match[1]!);
    for (const match of file.code.matchAll(/export type \w+Code = ((?:\s*\|?\s*'[a-z-]+')+)/g))
      for (const code of match[1]!.matchAll(/'([a-z-]+)'/g)) codes.add(code[1]!);
  }
  return codes;
}
