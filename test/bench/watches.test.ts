// bench:watches, tiny, so that it cannot rot. Its times are not judged.
import t from 'tap';
import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const PROGRAM = fileURLToPath(new URL('../../bench/watches.js', import.meta.url));

t.test('watchers miss nothing while datagrams are lost', async (t) => {
  const flags = ['--watchers', '3', '--rate', '500', '--seconds', '1', '--loss', '5', '--json'];
  const { stdout } = await promisify(execFile)(process.execPath, [PROGRAM, ...flags]);
  const report = JSON.parse(stdout) as Record<string, number | string | unknown[]>;
  t.equal(report['schema'], 'jitpaxos.bench-watches/1');
  t.ok((report['told'] as number) > 3, `${report['told']} changes were told`);
  t.match(report, { lost: 0, repeatedOrLate: 0, failed: [] });
  t.ok((report['p50Ms'] as number) > 0);
  t.match(report['rows'], [{ name: 'watches-wrong', holds: true }, { name: 'watches-delivery' }]);
});
