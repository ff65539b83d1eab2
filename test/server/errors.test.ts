import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { ERRORS, JitPaxosError, type ErrorCode } from '../../src/errors.js';

const ROOT = fileURLToPath(new URL('../../..', import.meta.url));

t.test('an error carries the traits of its code', async (t) => {
  const error = new JitPaxosError('port-in-use', 'message; cure', new Error('EADDRINUSE'));
  t.match(error, {
    name: 'JitPaxosError',
    code: 'port-in-use',
    category: 'environment',
    retryable: true,
    message: 'message; cure',
  });
  t.match(error.cause, { message: 'EADDRINUSE' });
  t.ok(error instanceof Error);
  t.notOk('cause' in new JitPaxosError('busy', 'x'));
});

t.test(
  'docs/reference/errors.md says of each code what the table says, and each code is thrown somewhere',
  async (t) => {
    const docs = readFileSync(join(ROOT, 'docs', 'reference', 'errors.md'), 'utf8');
    const sources = readdirSync(join(ROOT, 'src'), { recursive: true, encoding: 'utf8' })
      .filter((path) => path.endsWith('.ts') && path !== 'errors.ts')
      .map((path) => readFileSync(join(ROOT, 'src', path), 'utf8'))
      .join('\n');
    for (const code of Object.keys(ERRORS) as ErrorCode[]) {
      const row = new RegExp(`^\\| \`${code}\` \\| (\\w+) \\| (yes|no) \\|`, 'm').exec(docs);
      t.same(row?.slice(1), [ERRORS[code].category, ERRORS[code].retryable ? 'yes' : 'no'], code);
      t.ok(sources.includes(`'${code}'`), `${code} is used`);
    }
  },
);
