/**
 * Where the processor time goes at full load: V8's sampling profiler in every process of a local cluster and in its
 * client. Shows the ten most expensive functions of each process, and a flame graph of each in one HTML file.
 *
 *   npm run bench:profile -- [--open 512] [--transport dgram] [--report profile.html] [--json]
 *
 * Cluster and client are those of `jitpaxos bench compare`, one process per replica. The profiler takes part of the
 * time, so the rate is lower than without it. Shares show where to look; `bench compare` shows whether a change has
 * helped.
 */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { OurCluster } from '../src/measure/compare/cluster.js';
import type { Point } from '../src/measure/compare/shape.js';
import { CliError } from '../src/console/exit.js';
import { hostInfo } from '../src/measure/load/bench-report.js';
import { checkWritable, writeOutput } from '../src/console/output-file.js';
import { TRANSPORT_FLAGS, transportChoice } from '../src/console/transport-flags.js';
import { Views } from '../src/protocol/views.js';
import { version } from '../src/host/version.js';
import { readProfile, type CpuProfile } from './profile/cpu-profile.js';
import { FrameNames } from './profile/frame-names.js';
import { costOf, profilePage, profileText, type ProfileReport } from './profile/profile-report.js';
import { program } from './program.js';

const REPLICAS = 3;
const ROLES = ['primary', 'member', 'spare'] as const;

await program(
  {
    name: 'npm run bench:profile --',
    summary:
      'Profiles primary, member, spare and client at full load: the ten costliest functions of each, and flame graphs.',
    positionals: [],
    flags: {
      open: { kind: 'count', default: '512', min: 1, max: 4096, help: 'operations open in the client' },
      size: { kind: 'bytes', default: '64', min: 1, max: 48 * 1024, help: 'of an operation (echo) or value (kv)' },
      machine: { kind: 'choice', choices: ['echo', 'kv'], default: 'echo', help: 'the state machine' },
      ...TRANSPORT_FLAGS,
      seconds: { kind: 'duration', default: '5s', min: 1e7, max: 6e11, help: 'how long is sampled' },
      warmup: { kind: 'duration', default: '2s', max: 6e11, help: 'how long it runs before, unsampled' },
      interval: { kind: 'duration', default: '200us', min: 50_000, max: 1e9, help: 'between two samples' },
      report: { kind: 'text', value: 'FILE', help: 'write the flame graphs as one HTML file' },
    },
    examples: [
      'npm run bench:profile -- --report profile.html',
      'npm run bench:profile -- --transport dgram --open 32 --json',
    ],
  },
  async (values, output) => {
    checkWritable('report', values.report);
    const point: Point = {
      replicas: REPLICAS,
      clients: 1,
      open: values.open,
      bytes: values.size,
      operation: 'write',
      machine: values.machine === 'kv' ? 'kv' : 'echo',
    };
    const timing = { warmupMs: values.warmup / 1e6, ms: values.seconds / 1e6 };
    const intervalUs = Math.round(values.interval / 1e3);
    const directory = mkdtempSync(join(tmpdir(), 'jitpaxos-profile-'));
    try {
      output.note(
        `${REPLICAS} replicas and a client, ${timing.warmupMs / 1000} s to warm up, ${timing.ms / 1000} s sampled`,
      );
      const { measured, view, clientFile, replicaFiles } = await new OurCluster(
        'cluster',
        transportChoice(values),
      ).runProfiled(point, timing, { directory, intervalUs });
      const names = new FrameNames();
      const { operations, seconds, cpuSeconds } = measured;
      const roles = [
        ...rolesOf(view).map(({ role, id }) => ({
          role,
          file: replicaFiles[id]!,
          cpu: cpuSeconds.servers[id] ?? null,
        })),
        { role: 'client', file: clientFile, cpu: cpuSeconds.clients },
      ];
      const profiles = roles.map(({ role, file, cpu }) =>
        readProfile(load(role, file), measured.span!, cpu, names.nameOf),
      );
      const report: ProfileReport = {
        schema: 'jitpaxos.profile/1',
        point,
        transport: measured.transport ?? values.transport,
        idle: measured.idle ?? 'block',
        intervalUs,
        warmupSeconds: timing.warmupMs / 1000,
        seconds,
        operations,
        opsPerSecond: measured.opsPerSecond,
        viewChanges: measured.counts?.viewChanges ?? 0,
        processes: roles.map(({ role, cpu }, index) => costOf(role, profiles[index]!, cpu, seconds, operations)),
        host: hostInfo(),
        version: version(),
        commandLine: ['npm run bench:profile --', ...process.argv.slice(2)].join(' '),
      };
      output.line(output.json ? JSON.stringify(report) : profileText(report));
      if (report.viewChanges > 0)
        output.note(
          `${report.viewChanges} view changes: replicas changed roles in the run, and are named by their last ones`,
        );
      writeOutput('report', values.report, () => profilePage(report, profiles));
    } finally {
      rmSync(directory, { recursive: true, force: true });
    }
  },
);

/** The replicas, the primary first. */
function rolesOf(view: number): { readonly role: (typeof ROLES)[number]; readonly id: number }[] {
  const views = new Views(REPLICAS);
  const roleOf = (id: number): (typeof ROLES)[number] =>
    views.primary(view) === id ? 'primary' : views.isMember(view, id) ? 'member' : 'spare';
  return Array.from({ length: REPLICAS }, (_, id) => ({ role: roleOf(id), id })).sort(
    (a, b) => ROLES.indexOf(a.role) - ROLES.indexOf(b.role),
  );
}

function load(role: string, file: string): CpuProfile {
  try {
    return JSON.parse(readFileSync(file, 'utf8')) as CpuProfile;
  } catch (error) {
    throw new CliError(
      'worker-failed',
      `the ${role} left no profile (${error instanceof Error ? error.message : String(error)}): it had to be killed; run again for a shorter time, and look at the load of this host`,
    );
  }
}
