// `npm run measure` keeps results with their commit: its names, and what it refuses. The programs behind it have tests of
// their own.
import t from 'tap';
import { existsSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { runNode } from '../cluster/processes.js';

const root = fileURLToPath(new URL('../../..', import.meta.url));
const measure = `${root}scripts/measurements.mjs`;

t.test('without a name it lists what there is, and each command exists', async (t) => {
  const { code, stdout } = await runNode([measure]);
  t.equal(code, 0);
  const { scripts } = JSON.parse(readFileSync(`${root}package.json`, 'utf8')) as { scripts: Record<string, string> };
  const lines = stdout.trim().split('\n');
  t.ok(lines.length >= 5, stdout);
  for (const line of lines) {
    const [, name, script] = /^(\S+) +npm run (\S+)/.exec(line)!;
    const program = /dist\/bench\/\w+\.js/.exec(scripts[script!] ?? '')?.[0];
    t.ok(program !== undefined && existsSync(`${root}${program}`), `${name}: ${script}`);
  }
});

t.test('an unknown name is refused, and the known ones are named', async (t) => {
  const { code, stderr } = await runNode([measure, 'goals', 'goal']);
  t.equal(code, 2);
  t.match(stderr, /^measurement-unknown: there is no "goal"; use all, or some of goals, /);
});
