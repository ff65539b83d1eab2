/**
 * docs/reference/api.md: what `import … from 'jitpaxos'` and `… from 'jitpaxos/testing'` provide, with the docstrings of
 * the source. Public members only.
 */
import { fileURLToPath } from 'node:url';
import ts from 'typescript';

/** Each entry of the package: its name, its source, and a sentence about it. */
const ENTRIES = [
  [
    'jitpaxos',
    'index.ts',
    'Clients, replicas, state machines. Programs that use them are in [examples/](../../examples/), the errors in [errors](errors.md).',
  ],
  [
    'jitpaxos/testing',
    'testing/index.ts',
    'Tools for tests of a state machine of your own. [Testing](../start/testing.md) shows how to use them.',
  ],
].map(([name, source, about]) => ({
  name,
  source: fileURLToPath(new URL(`../../src/${source}`, import.meta.url)),
  about,
}));
const LINE_MAX = 240;

export function apiPage() {
  const program = ts.createProgram(
    ENTRIES.map(({ source }) => source),
    {
      target: ts.ScriptTarget.ES2022,
      module: ts.ModuleKind.NodeNext,
      moduleResolution: ts.ModuleResolutionKind.NodeNext,
      lib: ['lib.es2022.d.ts', 'lib.esnext.disposable.d.ts'],
      types: ['node'],
      strict: true,
      exactOptionalPropertyTypes: true,
      skipLibCheck: true,
    },
  );
  const checker = program.getTypeChecker();
  return [
    '# API',
    '',
    '<!-- Written by scripts/reference-docs.mjs. Do not edit: change the docstrings in src/ and run `npm run docs:reference`. -->',
    '',
    "What the package's two entries give. Everything else is internal and may change.",
    '',
    ...ENTRIES.flatMap(({ name, source, about }) => [
      `## From '${name}'`,
      '',
      about,
      '',
      ...exportsOf(program.getSourceFile(source), checker).flatMap((each) => section(each.name, each.target, checker)),
    ]),
  ].join('\n');
}

/** Names and symbols of what a file exports, in alphabetical order. */
function exportsOf(file, checker) {
  return checker
    .getExportsOfModule(checker.getSymbolAtLocation(file))
    .map((symbol) => ({
      name: symbol.name,
      target: symbol.flags & ts.SymbolFlags.Alias ? checker.getAliasedSymbol(symbol) : symbol,
    }))
    .sort((a, b) => a.name.localeCompare(b.name, 'en'));
}

function section(name, symbol, checker) {
  const declaration = symbol.declarations?.[0];
  if (declaration === undefined) return [];
  const members = membersOf(declaration);
  return [
    `### ${name}`,
    '',
    ...prose(symbol, checker),
    ...(members === undefined
      ? ['```ts', headOf(name, declaration, symbol, checker), '```', '']
      : [
          '```ts',
          `${headOf(name, declaration, symbol, checker)} {`,
          ...members.flatMap((member) => memberLines(member, checker)),
          '}',
          '```',
          '',
        ]),
  ];
}

/** Public members of classes and interfaces, in the order of the source. */
function membersOf(declaration) {
  if (!ts.isClassDeclaration(declaration) && !ts.isInterfaceDeclaration(declaration)) return undefined;
  return declaration.members.filter(
    (member) =>
      !ts.isClassStaticBlockDeclaration(member) &&
      !(ts.getCombinedModifierFlags(member) & (ts.ModifierFlags.Private | ts.ModifierFlags.Protected)) &&
      !(member.name !== undefined && ts.isPrivateIdentifier(member.name)),
  );
}

function memberLines(member, checker) {
  const symbol = member.name === undefined ? undefined : checker.getSymbolAtLocation(member.name);
  const text = symbol === undefined ? '' : ts.displayPartsToString(symbol.getDocumentationComment(checker)).trim();
  const signature = squeeze(withoutBody(member)).replace(/\basync /, '');
  return [...(text === '' ? [] : text.split('\n').map((line) => `  // ${line.trim()}`.trimEnd())), `  ${signature}`];
}

/** The declaration as written, up to its body or value. */
function withoutBody(node) {
  const source = node.getSourceFile().text;
  const end =
    node.body?.getStart() ?? (node.initializer !== undefined ? node.initializer.getFullStart() - 1 : node.getEnd());
  return `${source.slice(node.getStart(), end).trim().replace(/[;=]$/, '').trim()};`;
}

function headOf(name, declaration, symbol, checker) {
  if (ts.isClassDeclaration(declaration) || ts.isInterfaceDeclaration(declaration)) {
    const heritage = (declaration.heritageClauses ?? []).map((clause) => ` ${clause.getText()}`).join('');
    const parameters = (declaration.typeParameters ?? []).map((parameter) => squeeze(parameter.getText())).join(', ');
    return `${ts.isClassDeclaration(declaration) ? 'class' : 'interface'} ${name}${parameters === '' ? '' : `<${parameters}>`}${squeeze(heritage) === '' ? '' : ` ${squeeze(heritage)}`}`;
  }
  if (ts.isTypeAliasDeclaration(declaration)) return squeeze(declaration.getText().replace(/^export\s+/, ''));
  if (ts.isFunctionDeclaration(declaration)) return squeeze(withoutBody(declaration).replace(/^export\s+/, ''));
  const type = checker.typeToString(
    checker.getTypeOfSymbolAtLocation(symbol, declaration),
    declaration,
    ts.TypeFormatFlags.NoTruncation,
  );
  return `const ${name}: ${type.length > LINE_MAX ? `${type.slice(0, LINE_MAX)}…` : type}`;
}

function prose(symbol, checker) {
  const text = ts.displayPartsToString(symbol.getDocumentationComment(checker)).trim();
  return text === '' ? [] : [text, ''];
}

function squeeze(text) {
  return text
    .replace(/\/\*\*[\s\S]*?\*\//g, '')
    .replace(/\s+/g, ' ')
    .trim();
}
