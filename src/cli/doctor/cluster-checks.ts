/** Checks a cluster as seen from this host, and a replica's data directory. */
import { closeSync, existsSync, fsyncSync, mkdtempSync, openSync, rmSync, statfsSync, writeSync } from 'node:fs';
import { networkInterfaces } from 'node:os';
import { join } from 'node:path';
import { AllMembers } from '../cluster/all-members.js';
import { keyFileBeside } from '../../host/keyring.js';
import { loadKeys, type KeyFile } from '../../host/key-file.js';
import { AddressBook } from '../../host/address-book.js';
import { CHAIN_REMEDY, chainWarning, KEYED_CHAIN } from '../../host/chain.js';
import { hostAndPortOf, loadCluster, type Cluster } from '../../host/cluster-config.js';
import { WITHOUT_KEYS_REMEDY, withoutKeysWarning } from '../../host/without-keys.js';
import { formatDuration } from '../../console/units.js';
import { spokenIn, type ReplicaStatusReport } from '../../host/status.js';
import {
  chainRemarks,
  clocksApart,
  logAheadRemarks,
  summarize,
  twoLivesRemarks,
  votersOf,
  wireRemarks,
} from '../cluster/summary.js';
import { featureDifferences, featuresOn } from '../cluster/features-known.js';
import { keyDifferences, keyGroups } from '../cluster/keys-loaded.js';
import { fail, ok, skip, splitMessage, warn, type Finding } from './finding.js';
import type { Host } from './host.js';
import { viewsLeft } from './member-checks.js';
import { checkPaths } from './path-checks.js';

/** Linux, statfs(2): file systems whose content does not survive a restart. */
const VOLATILE_FILE_SYSTEMS = new Map([
  [0x01021994, 'tmpfs'],
  [0x858458f6, 'ramfs'],
]);
const FREE_BYTES_MIN = 64 << 20;
const SYNCS = 15;
/** How long to wait for the name server. */
const NAMES_MS = 5_000;
/** A view change waits for such a sync, twice on each replica. */
const SYNC_NS_GOOD = 10e6;

/** Checks the file itself. All of its problems are one finding. */
export function readCluster(file: string): { readonly cluster: Cluster | undefined; readonly finding: Finding } {
  try {
    const cluster = loadCluster(file);
    return {
      cluster,
      finding: ok('cluster file', `${file}: cluster ${cluster.id}, ${cluster.replicas.length} replicas`),
    };
  } catch (error) {
    const [found, advice] = splitMessage(error);
    return { cluster: undefined, finding: fail('cluster file', found, advice) };
  }
}

/** Whether the holder of a key can make replicas diverge. */
export function checkChain(cluster: Cluster): Finding {
  const warning = chainWarning(cluster);
  if (warning !== undefined) return warn('chain', warning, CHAIN_REMEDY);
  return ok(
    'chain',
    cluster.chain === KEYED_CHAIN
      ? `${cluster.chain}, under a secret of the replicas`
      : `${cluster.chain}, and no keys: anyone who reaches a replica can do everything`,
  );
}

/** Numeric addresses of the replicas whose names resolve, and which of them belong to this host. */
export async function checkAddresses(
  cluster: Cluster,
): Promise<{ readonly addresses: string[]; readonly findings: Finding[] }> {
  try {
    const book = await AddressBook.open(cluster, { startMs: NAMES_MS });
    book.close();
    const addresses = book.addresses.map(({ host }) => host).filter((host) => host !== '');
    const own = new Set(
      Object.values(networkInterfaces()).flatMap((entries) => (entries ?? []).map(({ address }) => address)),
    );
    const here = book.addresses.flatMap(({ host }, id) => (own.has(host) ? [id] : []));
    const enough = 2 * book.known > cluster.replicas.length;
    const unknown = book
      .unresolved()
      .map(({ replica, host, error }) =>
        (enough ? warn : fail)(
          `name ${replica}`,
          `host ${host} of replica ${replica} does not resolve (${error})`,
          `check the name, or write the address into the cluster file; ${enough ? 'processes start without it if the others are a majority, and continue to try' : 'the others are no majority'}`,
        ),
      );
    return {
      addresses,
      findings: [
        ...unknown,
        ok(
          'addresses',
          here.length === 0
            ? 'none of the replicas is this host: a client'
            : `this host has replica ${here.join(', ')}`,
        ),
      ],
    };
  } catch (error) {
    const [found, advice] = splitMessage(error);
    return { addresses: [], findings: [fail('addresses', found, advice)] };
  }
}

/** Drop reasons that concern keys. */
const UNHEARD = ['key', 'checksum', 'role'];

/**
 * Checks the key files beside the cluster file, if they are on this host: whether the replicas' file contains the
 * client's key. Secrets are compared, never shown.
 */
export function checkKeys(file: string, cluster: Cluster, clientFile?: string): Finding[] {
  const warning = withoutKeysWarning(cluster);
  if (warning !== undefined) return [warn('keys', warning, WITHOUT_KEYS_REMEDY)];
  const read = (
    kind: 'replica' | 'client',
  ): { readonly path: string; readonly keys?: KeyFile; readonly finding?: Finding } => {
    const given = kind === 'client' ? clientFile : undefined;
    const path = given ?? keyFileBeside(file, kind);
    if (given === undefined && !existsSync(path)) return { path };
    try {
      return { path, keys: loadKeys(path, cluster.id, kind) };
    } catch (error) {
      const [found, advice] = splitMessage(error);
      return { path, finding: fail('keys', found, advice) };
    }
  };
  const [replica, client] = [read('replica'), read('client')];
  const broken = [replica, client].flatMap(({ finding }) => (finding === undefined ? [] : [finding]));
  if (broken.length > 0) return broken;
  if (client.keys === undefined && replica.keys === undefined)
    return [
      warn(
        'keys',
        `neither ${client.path} nor ${replica.path} exists, and the cluster authenticates its datagrams`,
        'get a key file from the operator of the cluster',
      ),
    ];
  if (client.keys === undefined)
    return [
      ok(
        'keys',
        `${replica.path}: the replicas use key ${replica.keys!.use}, of ${replica.keys!.keys.length} keys in the file`,
      ),
    ];
  const own = client.keys.keys.find(({ id }) => id === client.keys!.use)!;
  if (replica.keys === undefined)
    return [
      ok(
        'keys',
        `${client.path}: key ${own.id}, role ${own.role}; this host cannot see whether the replicas have it: compare with jitpaxos keys list on a replica's host`,
      ),
    ];
  const known = replica.keys.keys.find(({ id }) => id === own.id);
  const advice = `replicas drop what is sent under it, without an answer: write a new one (jitpaxos keys add), and let the replicas read ${replica.path} again (SIGHUP)`;
  if (known === undefined)
    return [
      fail(
        'keys',
        `${client.path} uses key ${own.id}, which ${replica.path} does not have: it was removed, or belongs to another cluster`,
        advice,
      ),
    ];
  if (known.secret.toLowerCase() !== own.secret.toLowerCase())
    return [fail('keys', `key ${own.id} has one secret in ${client.path} and another in ${replica.path}`, advice)];
  return [ok('keys', `${client.path}: key ${own.id}, role ${own.role}, which ${replica.path} has too`)];
}

/**
 * Asks all replicas, and tries how long the datagrams may be that they get.
 * @param host whose kernel sends these datagrams, if it can be looked at
 */
export async function checkReplicas(
  file: string,
  timeoutMs: number,
  keys: { readonly keys?: string } = {},
  host?: Host,
): Promise<Finding[]> {
  const client = await AllMembers.open({ cluster: file, ...keys });
  try {
    await client.ask(timeoutMs); // the first answers pay for code that has not run yet
    const answers = await client.ask(timeoutMs);
    const summary = summarize(client.cluster.id, answers);
    const findings: Finding[] = answers.map(({ id, address, report, roundTripUs, silence }) =>
      report === undefined
        ? warn(
            `replica ${id}`,
            `${address} does not answer`,
            silence ??
              'start it; if it runs, check that UDP passes between the hosts, and that both have the same cluster file',
          )
        : ok(
            `replica ${id}`,
            `${address} answers in ${formatDuration(roundTripUs! * 1e3)}, version ${report.version}, wire ${spokenIn(report)}, ${report.status}${typeof report.identity === 'string' ? `, identity ${report.identity}` : ''}`,
          ),
    );
    const answering = answers.flatMap(({ id, address, report }) => {
      const at = report === undefined ? undefined : hostAndPortOf(address);
      return at === undefined ? [] : [{ id, at }];
    });
    findings.push(...(await checkPaths({ cluster: file, ...keys }, client.cluster.limits, answering, timeoutMs, host)));
    const strangers = answers
      .flatMap(({ id, report }) =>
        report === undefined
          ? []
          : [{ id, count: UNHEARD.reduce((sum, reason) => sum + (report.drops[reason] ?? 0), 0) }],
      )
      .filter(({ count }) => count > 0);
    if (strangers.length > 0)
      findings.push(
        warn(
          'refused datagrams',
          strangers
            .map(
              ({ id, count }) =>
                `replica ${id}: ${count} since its start, under a key that it does not have or with another secret`,
            )
            .join('; '),
          'a client with an old or foreign key file is running, or an attacker tries to get in: jitpaxos_datagrams_dropped_total{reason="key"|"checksum"|"role"} shows whether it continues',
        ),
      );
    const [mixed] = wireRemarks(summary.replicas);
    if (mixed !== undefined)
      findings.push(warn('wire versions', mixed, 'docs/operate/operations.md, "Upgrading one replica at a time"'));
    else if (summary.wireVersion !== undefined)
      findings.push(ok('wire versions', `all that answer speak version ${summary.wireVersion}`));
    for (const remark of logAheadRemarks(answers.flatMap(({ report }) => (report === undefined ? [] : [report]))))
      findings.push(warn('log and clocks', remark, 'docs/operate/clocks.md, "A clock that was ahead once"'));
    findings.push(...loadedKeys(answers.flatMap(({ report }) => (report === undefined ? [] : [report]))));
    findings.push(...viewsLeft(answers.flatMap(({ report }) => (report === undefined ? [] : [report]))));
    findings.push(...knownFeatures(answers.flatMap(({ report }) => (report === undefined ? [] : [report]))));
    const [twice] = twoLivesRemarks(summary.replicas);
    if (twice !== undefined) {
      const [found, advice] = splitMessage(new Error(twice));
      findings.push(warn('copied directory', found, advice));
    }
    const [differs] = chainRemarks(summary.replicas);
    if (differs !== undefined) findings.push(fail('chain', differs, 'docs/operate/security.md, "The chain"'));
    const reports = answers.flatMap(({ report }) => (report === undefined ? [] : [report]));
    const [apart] = clocksApart(reports);
    if (apart !== undefined)
      findings.push(
        warn(
          'clocks of replicas',
          apart,
          'set that clock right (jitpaxos clock read on its host): commits that need that replica are slow until then',
        ),
      );
    else if (
      reports.some(
        ({ replicaClocks }) => (replicaClocks?.offsetsNs.filter((ns) => ns !== null).length ?? 0) > answers.length / 2,
      )
    )
      findings.push(ok('clocks of replicas', 'the primary finds none that is off'));
    if (summary.available) findings.push(ok('quorum', `view ${summary.view}, replicas ${summary.members.join(', ')}`));
    else if (summary.answered === 0) findings.push(warn('quorum', 'no replica answers', 'start the replicas'));
    else if (summary.majorityLost !== undefined)
      findings.push(fail('quorum', summary.remarks[0]!, 'docs/operate/operations.md, "majority-lost"'));
    else
      findings.push(
        fail(
          'quorum',
          `the quorum of view ${summary.view} does not commit: ${summary.remarks.join('; ')}`,
          `make sure that a majority of ${Math.floor(votersOf(summary.replicas) / 2) + 1} replicas runs; then run jitpaxos status`,
        ),
      );
    return findings;
  } finally {
    await client.close();
  }
}

/** Compares the keys that the replicas have loaded. */
export function loadedKeys(reports: readonly Pick<ReplicaStatusReport, 'id' | 'keys'>[]): Finding[] {
  const check = 'loaded keys';
  const groups = keyGroups(reports);
  if (groups.length === 0) return [];
  const differences = keyDifferences(reports);
  if (differences.length > 0)
    return differences.map(({ isFault, text }) =>
      (isFault ? fail : warn)(check, text, 'docs/operate/security.md, "Rotating keys"'),
    );
  const silent = reports.filter(({ keys }) => keys === undefined).map(({ id }) => id);
  const [{ use, loaded }] = groups as [(typeof groups)[number]];
  return [
    ok(check, `replicas that say it have the same ${loaded.length}, and use key ${use}`),
    ...(silent.length === 0 ? [] : [skip(check, `replica ${silent.join(', ')}: an earlier version does not say`)]),
  ];
}

/** Compares the features that the replicas know. */
export function knownFeatures(reports: readonly Pick<ReplicaStatusReport, 'id' | 'features'>[]): Finding[] {
  const check = 'features';
  if (reports.length === 0) return [];
  const differences = featureDifferences(reports);
  if (differences.length > 0)
    return differences.map(({ isFault, text }) =>
      (isFault ? fail : warn)(check, text, 'docs/operate/operations.md, "Features"'),
    );
  const on = featuresOn(reports);
  return [ok(check, `replicas that answer know the same; on: ${on.length === 0 ? 'none' : on.join(', ')}`)];
}

/** The directory where the replica would keep its promises: writes there, and measures how long a sync takes. */
export function checkDataDirectory(directory: string): Finding[] {
  const check = 'data directory';
  let scratch: string | undefined;
  try {
    scratch = mkdtempSync(join(directory, '.doctor-'));
    const { type, bavail, bsize } = statfsSync(scratch);
    const volatile = VOLATILE_FILE_SYSTEMS.get(type);
    const free = bavail * bsize;
    const syncNs = measureSync(join(scratch, 'file'));
    return [
      volatile === undefined
        ? ok(check, directory)
        : fail(
            check,
            `${directory} is a ${volatile}: a replica's promises vanish when the host restarts`,
            'use a disk; a replica that forgets its promises can break agreement',
          ),
      free < FREE_BYTES_MIN
        ? fail('disk space', `${free >> 20} MiB free`, 'free some: a replica whose promises cannot be written stops')
        : ok('disk space', `${Math.round(free / 1024 ** 2)} MiB free`),
      syncNs > SYNC_NS_GOOD
        ? warn(
            'disk sync',
            `${formatDuration(syncNs)}, median of ${SYNCS}`,
            'every view change waits for it: use a disk with a write cache that survives power loss',
          )
        : ok('disk sync', `${formatDuration(syncNs)}, median of ${SYNCS}`),
    ];
  } catch (error) {
    return [
      fail(
        check,
        `${directory}: ${error instanceof Error ? error.message : String(error)}`,
        'create it, owned by the user that runs the replica',
      ),
    ];
  } finally {
    if (scratch !== undefined) rmSync(scratch, { recursive: true, force: true });
  }
}

function measureSync(file: string): number {
  const block = Buffer.alloc(4096, 1);
  const descriptor = openSync(file, 'w');
  try {
    const times: number[] = [];
    for (let i = 0; i < SYNCS; i++) {
      const start = performance.now();
      writeSync(descriptor, block, 0, block.length, 0);
      fsyncSync(descriptor);
      times.push(performance.now() - start);
    }
    return times.sort((a, b) => a - b)[SYNCS >> 1]! * 1e6;
  } finally {
    closeSync(descriptor);
  }
}
