// What an application gets: the files of the package, types that need nothing else, examples that run, and the Node
// that it needs.
import { execFile } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import t, { type Test } from 'tap';
import { LocalCluster } from '../src/measure/local-cluster.js';
import { isOldNode, NODE_MIN } from '../src/host/version.js';
import { jitpaxos, MAIN, runNode } from './cluster/processes.js';

const ROOT = fileURLToPath(new URL('../../', import.meta.url));
const read = (name: string): string => readFileSync(join(ROOT, name), 'utf8');
const manifest = JSON.parse(read('package.json')) as { engines: { node: string }; files: string[] };

function directory(t: Test): string {
  const path = mkdtempSync(join(tmpdir(), 'jitpaxos-package-'));
  t.teardown(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

t.test('the package has the examples, and everything that the docs point to', async (t) => {
  const { stdout } = await promisify(execFile)('npm', ['pack', '--dry-run', '--json', '--ignore-scripts'], {
    cwd: ROOT,
    maxBuffer: 16 << 20,
  });
  const [{ files }] = JSON.parse(stdout) as [{ files: { path: string }[] }];
  const packed = new Set(files.map(({ path }) => path));
  for (const name of ['counter', 'deadlines', 'fencing-lock', 'own-state-machine', 'run', 'test-your-machine'])
    t.ok(packed.has(`examples/${name}.ts`) && packed.has(`dist/examples/${name}.js`), name);
  t.notOk(
    [...packed].some((path) => /^(dist\/)?(test|bench)\//.test(path)),
    'and no tests',
  );
  // Maps would name sources that are not packed: a trace shows the lines of the JavaScript, which are readable.
  t.notOk(
    [...packed].some((path) => path.endsWith('.map') || /^src\//.test(path)),
    'no maps without sources',
  );
  const native = [...packed].filter((path) => /^native\/.*\//.test(path));
  t.same(native, ['native/bench/echo.cc'], 'only the baseline that bench compare compiles, and no fuzzers');
  const sources = [...read('binding.gyp').matchAll(/"(native\/[^"]+\.cc)"/g)].map(([, path]) => path!);
  t.ok(sources.length > 5);
  t.same(
    sources.filter((path) => !packed.has(path)),
    [],
    'every source of the addon',
  );
  const secret = /\.(keys|jpb|env|pem|node)$|(^|\/)\.(?!jitpaxos)/;
  t.same(
    [...packed].filter((path) => secret.test(path) && !path.startsWith('prebuilds/')),
    [],
    'no keys, no hidden files',
  );
  const missing: string[] = [];
  for (const page of [...packed].filter((path) => path.endsWith('.md') && path !== 'CHANGELOG.md')) {
    for (const [, target] of read(page).matchAll(/\]\(([^)#\s]+)(?:#[^)]*)?\)/g)) {
      if (/^[a-z]+:/.test(target!)) continue;
      const path = join(page, '..', target!);
      if (!packed.has(path) && ![...packed].some((each) => each.startsWith(path.endsWith('/') ? path : `${path}/`)))
        missing.push(`${page}: ${target}`);
    }
  }
  t.same(missing, []);
});

t.test('the types stand alone, and the programs of the docs have no type errors', async (t) => {
  const path = directory(t);
  mkdirSync(join(path, 'node_modules'));
  symlinkSync(ROOT, join(path, 'node_modules', 'jitpaxos'));
  const programs = ['library', 'testing'].flatMap((page) =>
    [...read(`docs/start/${page}.md`).matchAll(/```(?:js|ts)\n([^]*?)```/g)].map(([, text]) => text!),
  );
  t.equal(programs.length, 6);
  programs.forEach((text, i) =>
    writeFileSync(
      join(path, `program${i}.ts`),
      `declare const console: { log(text: unknown): void };\n${text}export {};\n`,
    ),
  );
  writeFileSync(join(path, 'package.json'), '{"type":"module"}');
  const options = {
    strict: true,
    noEmit: true,
    target: 'ES2022',
    module: 'NodeNext',
    skipLibCheck: false,
    lib: ['ES2022', 'DOM', 'ESNext.Disposable'],
    types: [],
    preserveSymlinks: true,
  };
  writeFileSync(join(path, 'tsconfig.json'), JSON.stringify({ compilerOptions: options, include: ['*.ts'] }));
  const { code, stdout } = await runNode([join(ROOT, 'node_modules/typescript/bin/tsc'), '-p', path]);
  t.equal(code, 0, stdout);
  const entry = await runNode(
    ['--input-type=module', '-e', "console.log(Object.keys(await import('jitpaxos/testing')).join())"],
    { cwd: path },
  );
  t.match(entry.stdout, /\bcheckHistory\b.*\bsimulate\b/, entry.stderr);
});

t.test('the examples run as programs against a cluster as `init` makes it, with keys', async (t) => {
  const cluster = await LocalCluster.start({
    replicas: 3,
    machine: 'kv',
    transport: 'auto',
    durability: 'memory',
    authenticated: true,
  });
  t.teardown(() => cluster.close());
  const program = (name: string): string => join(ROOT, 'dist', 'examples', `${name}.js`);
  for (const [name, expected] of [
    ['counter', /^\[[^]*20n[^]*\]$/m],
    ['deadlines', /inTime: 'done', aborted: 'not executed', value: '42'/],
    ['fencing-lock', /tokens: \[ 1, 2, 3 \]/],
    ['fencing-lock', /tokens: \[ 1, 2, 3 \]/],
  ] as const) {
    const { code, stdout, stderr } = await runNode([program(name), cluster.clusterFile]);
    t.equal(code, 0, `${name}: ${stderr}`);
    t.match(stdout, expected, name);
  }
  const named = await runNode([
    program('counter'),
    cluster.clusterFile,
    join(cluster.clusterFile, '..', 'client.keys'),
  ]);
  t.match(named.stdout, /40n/, 'with the keys named');
  const none = await runNode([program('counter')], { cwd: directory(t) });
  t.match([none.code, none.stderr], [1, /^cluster-file-unreadable: /]);
});

t.test('the Node that it needs', async (t) => {
  t.equal(manifest.engines.node, `>=${NODE_MIN}`);
  t.same(['18.20.0', '20.0.0', '20.3.1', '20.4.0', '20.10.0', '21.0.0', '22.3.0', '9.9.9'].filter(isOldNode), [
    '18.20.0',
    '20.0.0',
    '20.3.1',
    '9.9.9',
  ]);
  const path = directory(t);
  writeFileSync(
    join(path, 'old.cjs'),
    "Object.defineProperty(process, 'versions', { value: { ...process.versions, node: '20.3.1' } });",
  );
  const refused = await runNode(['--require', join(path, 'old.cjs'), MAIN, 'demo']);
  t.match(
    [refused.code, refused.stderr],
    [1, /^node-too-old: this is Node 20\.3\.1, and jitpaxos needs 20\.4\.0 or later; /],
  );
});

t.test('a command that failed ends, whatever it left behind', async (t) => {
  const path = directory(t);
  writeFileSync(join(path, 'keeps.cjs'), 'setInterval(() => undefined, 1000);');
  const { code, stderr } = await runNode(['--require', join(path, 'keeps.cjs'), MAIN, 'kv', 'gte']);
  t.match([code, stderr], [2, /^unknown-command/]);
});

t.test(
  'arguments that are no UTF-8 are refused, and not taken for U+FFFD',
  { skip: process.platform === 'linux' ? false : 'only Linux shows the arguments as they were' },
  async (t) => {
    const run = (bytes: string): Promise<{ stdout: string; stderr: string }> =>
      promisify(execFile)('sh', [
        '-c',
        `"$0" "$1" kv get "$(printf '${bytes}')" --cluster /nowhere || true`,
        process.execPath,
        MAIN,
      ]);
    t.match((await run('\\377')).stderr, /^argument-invalid: ".*" has bytes that are not UTF-8/);
    t.match((await run('\\357\\277\\275')).stderr, /^cluster-file-unreadable/, 'a U+FFFD that was meant');
    t.match((await jitpaxos(['kv', 'get', 'plain', '--cluster', '/nowhere'])).stderr, /^cluster-file-unreadable/);
  },
);
