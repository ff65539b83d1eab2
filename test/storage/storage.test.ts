import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { loadHash } from '../../src/native/hash64.js';
import type { HardState, PersistBatch } from '../../src/protocol/contract.js';
import { DirectoryLock } from '../../src/storage/directory-lock.js';
import { FORMATS } from '../../src/storage/formats.js';
import {
  decodeHardState,
  HARD_STATE_FILE,
  HardStateFile,
  SLOT_BYTES,
  type Owner,
} from '../../src/storage/hard-state.js';
import { drawIdentity } from '../../src/storage/identity.js';
import { addressText, loadCluster } from '../../src/host/cluster-config.js';
import { movedReplicas } from '../../src/storage/bootstrap-list.js';
import { MemoryStorage, VolatileHardState } from '../../src/storage/memory-storage.js';

const hash = loadHash();
const OWNER: Owner = { clusterHi: 0x12345678, clusterLo: -5, replica: 2 };
const OLD: HardState = { view: 7, logView: 5, incarnation: 3 };
const NEW: HardState = { view: 1_000_000, logView: 999_999, incarnation: 4 };
const RECORD_BYTES = 64;

function directory(t: Test): string {
  const path = mkdtempSync(join(tmpdir(), 'jitpaxos-storage-'));
  t.teardown(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

/** Content of the hard state file after `states` were written one after the other. */
async function imageAfter(t: Test, states: readonly HardState[]): Promise<Buffer> {
  const path = directory(t);
  const file = HardStateFile.open(path, OWNER, hash);
  for (const state of states) await file.write(state);
  file.close();
  return readFileSync(join(path, HARD_STATE_FILE));
}

/** What a replica finds that starts on this content. */
function recover(path: string, image: Uint8Array, owner = OWNER): HardState | undefined {
  writeFileSync(join(path, HARD_STATE_FILE), image);
  const file = HardStateFile.open(path, owner, hash);
  try {
    return file.state;
  } finally {
    file.close();
  }
}

t.test('hard state', async (t) => {
  await t.test('nothing on the first start; then what was written last', async (t) => {
    const path = directory(t);
    const first = HardStateFile.open(path, OWNER, hash);
    t.equal(first.state, undefined);
    t.same(readdirSync(path), [], 'opening creates nothing');
    await first.write(OLD);
    t.same(first.state, OLD);
    await first.write(NEW);
    first.close();
    first.close();
    const second = HardStateFile.open(path, OWNER, hash);
    t.same(second.state, NEW);
    await second.write(OLD);
    second.close();
    t.same(HardStateFile.open(path, OWNER, hash).state, OLD, 'newer is what was written later, not what is larger');
    t.same(readdirSync(path), [HARD_STATE_FILE]);
  });

  await t.test('the identity of the directory: drawn with the first write, and the same ever after', async (t) => {
    const path = directory(t);
    const first = HardStateFile.open(path, OWNER, hash);
    t.equal(first.identity, undefined, 'it is told when it is durable, not before');
    await first.write(OLD);
    const { identity } = first;
    t.match(identity, /^[0-9a-f]{16}$/);
    await first.write(NEW);
    first.close();
    const second = HardStateFile.open(path, OWNER, hash);
    t.equal(second.identity, identity, 'known before anything is written');
    await second.write(OLD);
    t.equal(second.identity, identity);
    second.close();
    const image = readFileSync(join(path, HARD_STATE_FILE));
    for (const slot of [0, SLOT_BYTES])
      t.equal(decodeHardState(image.subarray(slot, slot + SLOT_BYTES), OWNER, hash, path).identity, identity);
    const emptied = directory(t);
    const third = HardStateFile.open(emptied, OWNER, hash);
    await third.write(OLD);
    third.close();
    t.not(third.identity, identity, 'another directory has another one');
    t.equal(
      drawIdentity(() => 0),
      '0000000000000001',
      'zero means that there is none',
    );
  });

  await t.test(
    'a release without identities reads the file, and drops the identity; the next start draws one',
    async (t) => {
      const image = await imageAfter(t, [OLD]);
      const path = directory(t);
      // What that release writes: the same record with zeros in the place of the identity.
      for (const slot of [0, SLOT_BYTES]) {
        image.fill(0, slot + 40, slot + 48);
        hash.hash64(image, slot, RECORD_BYTES - 8, image, slot + RECORD_BYTES - 8);
      }
      t.same(recover(path, image), OLD);
      const file = HardStateFile.open(path, OWNER, hash);
      t.equal(file.identity, undefined);
      await file.write(NEW);
      t.match(file.identity, /^[0-9a-f]{16}$/);
      file.close();
    },
  );

  await t.test('a crash at any byte of a write leaves the old state or the new one', async (t) => {
    const before = await imageAfter(t, [OLD]);
    const after = await imageAfter(t, [OLD, NEW]);
    const path = directory(t);
    // A process that is killed in the middle of it leaves a prefix of its bytes.
    const changed: number[] = [];
    for (const slot of [0, SLOT_BYTES]) for (let i = 0; i < RECORD_BYTES; i++) changed.push(slot + i);
    const image = Buffer.from(before);
    const found: string[] = [];
    for (let written = 0; written <= changed.length; written++) {
      if (written > 0) image[changed[written - 1]!] = after[changed[written - 1]!]!;
      const state = recover(path, image);
      const name =
        JSON.stringify(state) === JSON.stringify(NEW)
          ? 'new'
          : JSON.stringify(state) === JSON.stringify(OLD)
            ? 'old'
            : JSON.stringify(state);
      if (found.at(-1) !== name) found.push(name);
    }
    t.same(found, ['old', 'new'], 'old up to some byte, new from there on');
    t.same(image, after);
  });

  await t.test('a slot torn in any place, with anything in the rest', async (t) => {
    const after = await imageAfter(t, [OLD, NEW]);
    const path = directory(t);
    const wrong: string[] = [];
    for (let torn = 0; torn < RECORD_BYTES; torn++) {
      for (const slot of [0, SLOT_BYTES]) {
        const image = Buffer.from(after);
        image.fill(0xa5, slot + torn, slot + RECORD_BYTES);
        if (JSON.stringify(recover(path, image)) !== JSON.stringify(NEW))
          wrong.push(`slot at ${slot} torn at byte ${torn}`);
      }
    }
    t.same(wrong, []);
  });

  await t.test('of two whole slots the newer counts, whichever it is', async (t) => {
    const before = await imageAfter(t, [OLD]);
    const after = await imageAfter(t, [OLD, NEW]);
    const path = directory(t);
    for (const newer of [0, SLOT_BYTES]) {
      const image = Buffer.from(before);
      after.copy(image, newer, newer, newer + RECORD_BYTES);
      t.same(recover(path, image), NEW);
    }
  });

  await t.test('every flipped bit of a slot is noticed', async (t) => {
    const image = await imageAfter(t, [NEW]);
    const path = directory(t);
    const lone = Buffer.from(image);
    lone.fill(0, SLOT_BYTES); // the second slot is gone, so the first has to answer alone
    t.same(recover(path, lone), NEW);
    for (let bit = 0; bit < RECORD_BYTES * 8; bit++) {
      const flipped = Buffer.from(lone);
      flipped[bit >> 3]! ^= 1 << (bit & 7);
      try {
        recover(path, flipped);
        t.fail(`bit ${bit} was not noticed`);
      } catch (error) {
        if ((error as { code?: string }).code !== 'hard-state-corrupt') t.fail(`bit ${bit}: ${String(error)}`);
      }
    }
  });

  await t.test('no whole copy: refused, never a fresh start', async (t) => {
    const path = directory(t);
    const image = await imageAfter(t, [NEW]);
    for (const [what, bytes] of [
      ['empty', Buffer.alloc(0)],
      ['zeros', Buffer.alloc(image.length)],
      ['cut in the first record', image.subarray(0, 40)],
      [
        'both damaged',
        Buffer.from(image)
          .fill(1, 10, 20)
          .fill(1, SLOT_BYTES + 10, SLOT_BYTES + 20),
      ],
    ] as const) {
      t.throws(
        () => recover(path, bytes),
        { code: 'hard-state-corrupt', category: 'environment', message: /do not delete the file alone/ },
        what,
      );
      t.ok(existsSync(join(path, HARD_STATE_FILE)), 'the file is left as it was');
    }
    t.same(recover(path, image.subarray(0, RECORD_BYTES)), NEW, 'cut behind the first record: that one counts');
  });

  await t.test('of another replica, of another cluster, of another format', async (t) => {
    const path = directory(t);
    const image = await imageAfter(t, [NEW]);
    t.throws(() => recover(path, image, { ...OWNER, replica: 1 }), {
      code: 'data-directory-foreign',
      message: /replica 2 .* not to replica 1/,
    });
    t.throws(() => recover(path, image, { ...OWNER, clusterLo: 1 }), { code: 'data-directory-foreign' });
    const newer = Buffer.from(image);
    for (const slot of [0, SLOT_BYTES]) {
      newer[slot + 7] = FORMATS.hardState.newest + 1;
      hash.hash64(newer, slot, RECORD_BYTES - 8, newer, slot + RECORD_BYTES - 8);
    }
    t.throws(() => recover(path, newer), { code: 'data-directory-unusable', message: /format 4/ });
  });

  await t.test('a failing disk is said so', async (t) => {
    const path = directory(t);
    const file = HardStateFile.open(path, OWNER, hash);
    rmSync(path, { recursive: true });
    await t.rejects(file.write(OLD), { code: 'storage-failed', category: 'environment' });
    t.equal(file.state, undefined, 'what failed does not count');
  });

  await t.test('a half-made first file is not taken for a state', async (t) => {
    const path = directory(t);
    writeFileSync(join(path, `${HARD_STATE_FILE}.new`), 'half');
    const file = HardStateFile.open(path, OWNER, hash);
    t.equal(file.state, undefined);
    await file.write(OLD);
    file.close();
    t.same(HardStateFile.open(path, OWNER, hash).state, OLD);
  });
});

t.test('the replicas that a cluster was set up with', async (t) => {
  const three = ['a:1', 'b:1', 'c:1'];
  const owned = (addresses: readonly string[] | undefined): Owner =>
    addresses === undefined ? OWNER : { ...OWNER, addresses };
  const state = { ...OLD, known: [4, 0, 7], lives: [-1, 0, 9] };

  /** Written with `before`, opened with `after`. */
  async function reopened(
    path: string,
    before: readonly string[] | undefined,
    after: readonly string[] | undefined,
  ): Promise<HardStateFile> {
    rmSync(join(path, HARD_STATE_FILE), { force: true });
    const file = HardStateFile.open(path, owned(before), hash);
    await file.write(state);
    file.close();
    return HardStateFile.open(path, owned(after), hash);
  }

  await t.test('addresses and incarnations come back; a replica may move', async (t) => {
    const path = directory(t);
    for (const after of [three, ['a:1', 'moved:9', 'c:1'], ['x:1', 'y:1', 'z:1']]) {
      const file = await reopened(path, three, after);
      t.same(file.state, { ...OLD, known: [4, 0, 7], lives: [-1, 0, 9] });
      t.same(file.addresses, three);
      await file.write(NEW);
      t.same(
        HardStateFile.open(path, owned(after), hash).addresses,
        after,
        'from the next write on the new ones are known',
      );
      file.close();
    }
    t.same(movedReplicas(three, ['a:1', 'moved:9', 'c:1']), [{ replica: 1, from: 'b:1', to: 'moved:9' }]);
  });

  await t.test('another number, another order: refused, and what differs is named', async (t) => {
    const path = directory(t);
    for (const [after, what] of [
      [['a:1', 'b:1', 'c:1', 'd:1', 'e:1'], /set up with 3 replicas \(a:1, b:1, c:1\).* now lists 5/],
      [['a:1'], /set up with 3 .* lists 1/],
      [['b:1', 'a:1', 'c:1'], /replica 0 the address b:1, which belonged to replica 1/],
      [['a:1', 'c:1', 'new:1'], /replica 1 the address c:1, which belonged to replica 2/],
    ] as const) {
      await t.rejects(reopened(path, three, after), {
        code: 'cluster-file-changed',
        category: 'caller',
        message: what,
      });
    }
  });

  await t.test('a directory of the release before takes them up, and that release reads this one', async (t) => {
    const path = directory(t);
    const file = await reopened(path, undefined, three);
    t.equal(file.addresses, undefined);
    t.same(file.state, OLD, 'no incarnations');
    await file.write(state);
    file.close();
    const image = readFileSync(join(path, HARD_STATE_FILE));
    // What it reads: 64 bytes at the beginning of each slot, format 1.
    for (const slot of [0, SLOT_BYTES]) {
      const digest = new Uint8Array(8);
      hash.hash64(image, slot, RECORD_BYTES - 8, digest, 0);
      t.same(image.subarray(slot + RECORD_BYTES - 8, slot + RECORD_BYTES), digest);
      t.equal(image.readUInt32BE(slot + 4), 1);
      t.same([...image.subarray(slot + 48, slot + 56)], new Array(8).fill(0));
    }
  });

  await t.test('every flipped bit of them is noticed: the promises count, the rest is taken up anew', async (t) => {
    const path = directory(t);
    (await reopened(path, three, three)).close();
    const image = readFileSync(join(path, HARD_STATE_FILE));
    image.fill(0, SLOT_BYTES);
    const wrong: string[] = [];
    for (let at = RECORD_BYTES; at < 200; at++) {
      const rotten = Buffer.from(image);
      rotten[at]! ^= 1 << (at % 8);
      writeFileSync(join(path, HARD_STATE_FILE), rotten);
      const file = HardStateFile.open(path, owned(three), hash);
      if (file.addresses !== undefined || JSON.stringify(file.state) !== JSON.stringify(OLD)) wrong.push(`byte ${at}`);
      file.close();
    }
    t.same(wrong, []);
  });

  await t.test('the longest list fits', async (t) => {
    const path = directory(t);
    const longest = Array.from({ length: 13 }, (_, id) => `${String(id).padStart(253, 'h')}:65535`);
    const cluster = loadCluster({ schema: 'jitpaxos.cluster/1', id: '0'.repeat(16), replicas: longest });
    const file = await reopened(path, cluster.replicas.map(addressText), longest);
    t.same(file.addresses, longest);
    file.close();
    t.throws(
      () => loadCluster({ schema: 'jitpaxos.cluster/1', id: '0'.repeat(16), replicas: [`${'h'.repeat(260)}:1`] }),
      { code: 'cluster-file-invalid', message: /253 characters/ },
    );
  });
});

t.test('memory storage', async (t) => {
  const batch = (hardState: HardState): PersistBatch => ({
    hardState,
    entriesFrom: 1,
    lastIndex: 0,
    committed: 0,
    snapshot: undefined,
    readEntry: () => 0,
    entryBytes: () => 0,
  });

  await t.test('reports a batch once it is durable, and not within persist; the log counts as lost', async (t) => {
    const path = directory(t);
    const storage = new MemoryStorage(HardStateFile.open(path, OWNER, hash));
    const { identity, ...empty } = storage.recovered();
    t.same(empty, { hardState: undefined, log: undefined });
    t.ok(
      identity !== undefined && (identity.identityHi | identity.identityLo) !== 0,
      'an empty directory has drawn it',
    );
    t.equal(storage.keepsLog, false);
    const tokens: [number, HardState | undefined][] = [];
    storage.events = {
      persisted: (token) => {
        const onDisk = HardStateFile.open(path, OWNER, hash);
        tokens.push([token, onDisk.state]);
        onDisk.close();
      },
      failed: (error) => t.fail(String(error)),
    };
    storage.persist(1, batch(OLD));
    t.same(tokens, [], 'the turn goes on while the disk works');
    storage.persist(2, batch({ ...OLD, incarnation: OLD.incarnation + 1 }));
    storage.persist(3, batch(NEW));
    await storage.settled();
    t.same(
      tokens,
      [
        [1, OLD],
        [3, NEW],
      ],
      'what came while a write was under way is written at once',
    );
    storage.persist(4, batch(OLD));
    await storage.close();
    t.same(tokens.at(-1), [4, OLD], 'a close waits for the write');
    const again = new MemoryStorage(HardStateFile.open(path, OWNER, hash)).recovered();
    t.same(again, { hardState: OLD, identity, log: undefined });
  });

  await t.test('a disk that fails is said so once; nothing is reported as durable afterwards', async (t) => {
    const path = directory(t);
    const storage = new MemoryStorage(HardStateFile.open(path, OWNER, hash));
    const heard: unknown[] = [];
    storage.events = {
      persisted: (token) => heard.push(token),
      failed: (error) => heard.push((error as { code: string }).code),
    };
    storage.persist(1, batch(OLD));
    rmSync(path, { recursive: true });
    storage.persist(2, batch(NEW));
    await storage.settled();
    storage.persist(3, batch(NEW));
    await storage.close();
    t.same(heard, ['storage-failed']);
  });

  await t.test('without a directory', async (t) => {
    const storage = new MemoryStorage(new VolatileHardState());
    storage.persist(1, batch(OLD));
    t.same(storage.recovered().hardState, OLD);
    await storage.close();
  });
});

t.test('lock of a data directory', async (t) => {
  await t.test('one holder at a time; creates the directory', async (t) => {
    const path = join(directory(t), 'deep', 'data');
    const lock = DirectoryLock.acquire(path);
    t.throws(() => DirectoryLock.acquire(path), {
      code: 'data-directory-locked',
      retryable: true,
      message: new RegExp(`pid ${process.pid}`),
    });
    lock.release();
    lock.release();
    DirectoryLock.acquire(path).release();
    t.same(readdirSync(path), [], 'nothing is left behind');
  });

  await t.test('held by another process, which is named; taken over when that was killed', async (t) => {
    const path = directory(t);
    const module = new URL('../../src/storage/directory-lock.js', import.meta.url).href;
    const child = spawn(
      process.execPath,
      [
        '--input-type=module',
        '-e',
        `const { DirectoryLock } = await import(${JSON.stringify(module)}); DirectoryLock.acquire(${JSON.stringify(path)}); console.log('locked'); setInterval(() => {}, 1000);`,
      ],
      { stdio: ['ignore', 'pipe', 'inherit'] },
    );
    await new Promise((resolve) => child.stdout.once('data', resolve));
    t.throws(() => DirectoryLock.acquire(path), {
      code: 'data-directory-locked',
      message: new RegExp(`process ${child.pid}\\b`),
    });
    child.kill('SIGKILL');
    await new Promise((resolve) => child.once('exit', resolve));
    t.ok(existsSync(join(path, 'lock')), 'the killed process left its lock');
    DirectoryLock.acquire(path).release();
  });

  await t.test('a pid that is in use again is not the holder', async (t) => {
    const path = directory(t);
    DirectoryLock.acquire(path);
    const holder = JSON.parse(readFileSync(join(path, 'lock'), 'utf8')) as {
      pid: number;
      started: string;
      boot: string;
    };
    t.equal(holder.pid, process.pid);
    for (const other of [
      { ...holder, started: String(Number(holder.started) - 1) },
      { ...holder, boot: 'another boot' },
    ]) {
      writeFileSync(join(path, 'lock'), JSON.stringify(other));
      DirectoryLock.acquire(path).release();
    }
  });

  await t.test('a torn lock is that of a host that lost power', async (t) => {
    const path = directory(t);
    for (const content of ['', '{"pid":', 'null', '[]', '{"pid":"1"}']) {
      writeFileSync(join(path, 'lock'), content);
      t.doesNotThrow(() => DirectoryLock.acquire(path).release(), content);
    }
  });

  await t.test('what a process left that died during a takeover is in the way of nobody', async (t) => {
    const path = directory(t);
    for (const dead of [
      '',
      '{}',
      JSON.stringify({ pid: 1, started: '0', boot: 'before' }),
      JSON.stringify({
        pid: process.pid,
        started: '1',
        boot: readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim(),
      }),
    ]) {
      for (const name of ['lock.takeover', 'lock.takeover.17.abc']) {
        writeFileSync(join(path, 'lock'), dead);
        writeFileSync(join(path, name), dead);
        DirectoryLock.acquire(path).release();
        t.same(readdirSync(path), [], `${name} with ${dead}`);
      }
    }
  });

  await t.test('a takeover by a living process is waited for, and it is named', async (t) => {
    const path = directory(t);
    DirectoryLock.acquire(path);
    const mine = readFileSync(join(path, 'lock'), 'utf8');
    writeFileSync(join(path, 'lock'), '');
    writeFileSync(join(path, 'lock.takeover'), mine);
    t.throws(() => DirectoryLock.acquire(path), {
      code: 'data-directory-locked',
      message: new RegExp(`taken over .* by process ${process.pid}`),
    });
  });

  await t.test('a zombie holds nothing', async (t) => {
    const path = directory(t);
    const module = new URL('../../src/storage/directory-lock.js', import.meta.url).href;
    // The child is killed, and its parent is stopped before it can ask how it ended.
    const parent = spawn(
      process.execPath,
      [
        '--input-type=module',
        '-e',
        `
      const { spawn } = await import('node:child_process');
      const child = spawn(process.execPath, ['--input-type=module', '-e', ${JSON.stringify(`const { DirectoryLock } = await import(${JSON.stringify(module)}); DirectoryLock.acquire(${JSON.stringify(path)}); console.log('locked'); setInterval(() => {}, 1000);`)}], { stdio: ['ignore', 'pipe', 'inherit'] });
      child.stdout.once('data', () => console.log(child.pid));
      setInterval(() => {}, 1000);`,
      ],
      { stdio: ['ignore', 'pipe', 'inherit'] },
    );
    const pid = Number(await new Promise<Buffer>((resolve) => parent.stdout.once('data', resolve)));
    parent.kill('SIGSTOP');
    process.kill(pid, 'SIGKILL');
    const state = (): string => readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]![0]!;
    while (state() !== 'Z') await new Promise((resolve) => setTimeout(resolve, 5));
    t.doesNotThrow(() => DirectoryLock.acquire(path).release());
    parent.kill('SIGKILL');
  });

  await t.test('many processes at a stale lock: one gets it', async (t) => {
    const path = directory(t);
    writeFileSync(join(path, 'lock'), JSON.stringify({ pid: 1, started: '0', boot: 'before' }));
    const module = new URL('../../src/storage/directory-lock.js', import.meta.url).href;
    const program = `const { DirectoryLock } = await import(${JSON.stringify(module)}); process.stdin.once('data', () => { try { DirectoryLock.acquire(${JSON.stringify(path)}); console.log('mine'); } catch (error) { console.log(error.code); } process.stdin.once('data', () => process.exit()); }); console.log('ready');`;
    const children = Array.from({ length: 6 }, () =>
      spawn(process.execPath, ['--input-type=module', '-e', program], { stdio: ['pipe', 'pipe', 'inherit'] }),
    );
    const line = (child: (typeof children)[number]): Promise<string> =>
      new Promise((resolve) => child.stdout.once('data', (data: Buffer) => resolve(data.toString().trim())));
    await Promise.all(children.map(line));
    const answers = Promise.all(children.map(line));
    for (const child of children) child.stdin.write('go\n');
    t.same((await answers).sort(), [
      'data-directory-locked',
      'data-directory-locked',
      'data-directory-locked',
      'data-directory-locked',
      'data-directory-locked',
      'mine',
    ]);
    for (const child of children) child.stdin.write('end\n');
    await Promise.all(children.map((child) => new Promise((resolve) => child.once('exit', resolve))));
  });

  await t.test('a path that is no directory', async (t) => {
    const path = join(directory(t), 'file');
    writeFileSync(path, '');
    t.throws(() => DirectoryLock.acquire(path), { code: 'data-directory-unusable' });
  });
});
