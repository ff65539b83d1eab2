/**
 * node scripts/pack-program.mjs COMMIT FILE: packs what a replica and a client of an earlier commit consist of, compiled
 * and without comments, into one compressed file. test/cluster/upgrade.test.ts runs it, so that an upgrade from there is
 * tested in clones that lack that commit.
 */
import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path/posix';
import { brotliCompressSync, constants } from 'node:zlib';
import ts from 'typescript';

/** The command, with one of its subcommands, and the library. */
const COMMAND = 'src/cli/main.ts';
const ENTRIES = [COMMAND, 'src/cli/replica.ts', 'src/index.ts'];

const [commit, file] = process.argv.slice(2);
if (file === undefined) {
  console.error('usage: node scripts/pack-program.mjs COMMIT FILE');
  process.exit(2);
}
const git = (...args) => execFileSync('git', args, { encoding: 'utf8', maxBuffer: 1 << 28 });
const files = {};
const left = [...ENTRIES];
while (left.length > 0) {
  const path = left.pop();
  const name = join('dist', path.replace(/\.ts$/, '.js'));
  if (files[name] !== undefined) continue;
  const source = git('show', `${commit}:${path}`);
  files[name] = ts.transpileModule(source, {
    compilerOptions: {
      module: ts.ModuleKind.ESNext,
      target: ts.ScriptTarget.ES2022,
      removeComments: true,
      verbatimModuleSyntax: true,
    },
  }).outputText;
  // Of the command's subcommands, which are imported when they are needed, only the entries above are packed.
  const imports = path === COMMAND ? /(?:from|^import)\s*'(\.[^']+)'/gm : /(?:from|^import|import\()\s*'(\.[^']+)'/gm;
  for (const [, imported] of files[name].matchAll(imports))
    left.push(join(dirname(path), imported.replace(/\.js$/, '.ts')));
}
const { name, version, type } = JSON.parse(git('show', `${commit}:package.json`));
files['package.json'] = JSON.stringify({ name, version, type });
const sorted = Object.fromEntries(Object.entries(files).sort(([a], [b]) => (a < b ? -1 : 1)));
const packed = brotliCompressSync(
  JSON.stringify({ commit: git('rev-parse', '--short', commit).trim(), files: sorted }),
  {
    params: { [constants.BROTLI_PARAM_QUALITY]: 11, [constants.BROTLI_PARAM_LGWIN]: 24 },
  },
);
writeFileSync(file, packed);
console.log(`${Object.keys(files).length} files, ${packed.length} bytes`);
