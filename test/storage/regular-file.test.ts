// Files that others could have put there: nothing but a regular file of a sensible length is read, and nothing hangs.
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { once } from 'node:events';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { loadCluster } from '../../src/host/cluster-config.js';
import { loadKeys } from '../../src/host/key-file.js';
import { loadHash } from '../../src/native/hash64.js';
import { HardStateFile } from '../../src/storage/hard-state.js';
import { readRegularFile } from '../../src/storage/regular-file.js';
import { jitpaxos } from '../cluster/processes.js';

const home = mkdtempSync(join(tmpdir(), 'jitpaxos-files-'));
t.teardown(() => rmSync(home, { recursive: true, force: true }));
const at = (name: string): string => join(home, name);

t.test('what is read: a regular file, up to a length', async (t) => {
  writeFileSync(at('ten'), '0123456789');
  t.equal(readRegularFile(at('ten'), 10).toString(), '0123456789');
  t.throws(() => readRegularFile(at('ten'), 9), { message: 'it has 10 bytes: at most 9 are read' });
  symlinkSync('ten', at('link'));
  t.equal(readRegularFile(at('link'), 10).toString(), '0123456789', 'also behind a link');
  writeFileSync(at('empty'), '');
  t.equal(readRegularFile(at('empty'), 10).length, 0);
  if (process.platform === 'linux') {
    // Its size says 0.
    t.match(readRegularFile('/proc/self/status', 1 << 16).toString(), /^Name:[^]*voluntary_ctxt_switches/m);
    t.throws(() => readRegularFile('/proc/self/status', 100), {
      message: 'it has too many bytes: at most 100 are read',
    });
  }
  t.throws(() => readRegularFile(at('absent'), 10), { code: 'ENOENT' });
  t.throws(() => readRegularFile(home, 10), { message: 'it is a directory, not a regular file' });
  t.throws(() => readRegularFile('/dev/zero', 10), { message: 'it is a device, not a regular file' });
  execFileSync('mkfifo', [at('fifo')]);
  t.throws(() => readRegularFile(at('fifo'), 10), { message: 'it is a FIFO, not a regular file' });
  const server = createServer().listen(at('socket'));
  await once(server, 'listening');
  t.throws(() => readRegularFile(at('socket'), 10), { code: 'ENXIO' });
  server.close();
});

t.test('a FIFO, or a file that is far too long, in place of each file that an operator gives', async (t) => {
  execFileSync('mkfifo', ['-m', '600', at('given')]);
  writeFileSync(at('long'), '', { mode: 0o600 });
  truncateSync(at('long'), 300 << 20); // sparse
  t.throws(() => loadCluster(at('given')), { code: 'cluster-file-unreadable', message: /it is a FIFO/ });
  t.throws(() => loadCluster(at('long')), { code: 'cluster-file-unreadable', message: /it has 314572800 bytes/ });
  t.throws(() => loadKeys(at('given'), '00c0ffee12345678', 'client'), {
    code: 'key-file-unreadable',
    message: /it is a FIFO/,
  });
  t.throws(() => loadKeys(at('long'), '00c0ffee12345678', 'client'), {
    code: 'key-file-unreadable',
    message: /it has 314572800 bytes/,
  });
  const refused = async (code: string, ...args: string[]): Promise<void> => {
    const ended = await jitpaxos(args);
    t.match(ended.stderr, new RegExp(`${code}.*it is a FIFO, not a regular file`), args.join(' '));
  };
  await Promise.all([
    refused('config-file-unreadable', 'replica', '--config', at('given')),
    refused('argument-invalid', 'bench', 'report', at('given')),
    refused(
      'argument-invalid',
      'init',
      '--replicas',
      '127.0.0.1:7400',
      '--out',
      at('x.json'),
      '--restore',
      at('given'),
    ),
  ]);
});

t.test('a FIFO in a data directory', async (t) => {
  for (const name of ['hard-state', 'log-00000001-00000000', 'lock']) {
    const directory = at(`data-${name}`);
    mkdirSync(directory);
    if (name === 'lock') writeFileSync(join(directory, 'hard-state'), Buffer.alloc(512));
    execFileSync('mkfifo', [join(directory, name)]);
    const [inspected, started] = await Promise.all([
      jitpaxos(['inspect', directory]),
      jitpaxos(['backup', directory, '--out', at(`${name}.jpb`)]),
    ]);
    t.match(inspected.stderr, /^data-directory-unusable: /, `inspect: ${name}`);
    if (name === 'hard-state')
      t.throws(() => HardStateFile.open(directory, { clusterHi: 1, clusterLo: 2, replica: 0 }, loadHash()), {
        code: 'data-directory-unusable',
        message: /it is a FIFO/,
      });
    if (name !== 'lock') t.match(started.stderr, new RegExp(`^data-directory-unusable: .*${name} is a FIFO`));
  }
});
