/** The C baseline: native/bench/echo.cc, compiled when a comparison needs it. */
import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { cpus, tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { CliError } from '../../console/exit.js';
import { measureClients, type Contestant, type Measured, type Timing } from './contestant.js';
import { Children, LineChild } from './line-child.js';
import { clientAddress, serverAddress, type Placement } from './placement.js';
import { quorumOf, sizesOf, type Point } from './shape.js';

/** From dist/src/measure/compare to native/, in a checkout as in the package. */
const SOURCE = fileURLToPath(new URL('../../../../native/bench/echo.cc', import.meta.url));
const COMPILERS = ['c++', 'g++', 'clang++'];
const COMPILE_TIMEOUT_MS = 120_000;
/** There is no compiler to warm up. */
const WARMUP_MS = 200;

/** The compiled program; deleted when it is closed, and at the end of this process. */
export class EchoProgram implements Disposable {
  private readonly remove = (): void => rmSync(this.directory, { recursive: true, force: true });

  private constructor(private readonly directory: string) {
    process.once('exit', this.remove);
  }

  get path(): string {
    return join(this.directory, 'echo');
  }

  /** Throws CliError `compiler-missing`, or `worker-failed` with the compiler's first line. */
  static async build(): Promise<EchoProgram> {
    const program = new EchoProgram(mkdtempSync(join(tmpdir(), 'jitpaxos-echo-')));
    try {
      await compile(program.path);
      return program;
    } catch (error) {
      program[Symbol.dispose]();
      throw error;
    }
  }

  [Symbol.dispose](): void {
    process.removeListener('exit', this.remove);
    this.remove();
  }
}

async function compile(target: string): Promise<void> {
  const candidates = process.env['CXX'] ? [process.env['CXX']] : COMPILERS;
  for (const candidate of candidates) {
    const [command, ...first] = candidate.trim().split(/\s+/);
    const error = await new Promise<(Error & { code?: unknown; stderr: string }) | null>((resolve) =>
      execFile(
        command!,
        [...first, '-O2', '-std=c++17', '-pthread', '-o', target, SOURCE],
        { timeout: COMPILE_TIMEOUT_MS },
        (failed, _, stderr) => resolve(failed === null ? null : Object.assign(failed, { stderr })),
      ),
    );
    if (error === null) return;
    if (error.code !== 'ENOENT')
      throw new CliError(
        'worker-failed',
        `${command} could not compile native/bench/echo.cc (${error.stderr.trim().split('\n')[0] || error.message}); leave the C baselines out with --baselines`,
      );
  }
  throw new CliError(
    'compiler-missing',
    `there is no compiler (${candidates.join(', ')}), and the C baselines are compiled from native/bench/echo.cc; install a C++ compiler (Debian: apt-get install g++), name a compiler in CXX, or leave the C baselines out with --baselines dgram-echo,unreplicated`,
  );
}

/** Spinning servers share a process if there are not enough cores, like the replicas of a comparison. */
export function sharesProcess(spins: boolean, { replicas, clients }: Pick<Point, 'replicas' | 'clients'>): boolean {
  return spins && cpus().length < replicas + clients;
}

export class CEcho implements Contestant {
  readonly name: string;

  constructor(
    private readonly program: EchoProgram,
    private readonly wait: 'block' | 'spin',
    private readonly placement?: Placement,
  ) {
    this.name = `c-echo-${wait}`;
  }

  async run(point: Point, timing: Timing): Promise<Measured> {
    await using children = new Children();
    const sizes = sizesOf(point);
    const common = [
      '--wait',
      this.wait,
      '--datagram',
      sizes.datagram,
      '--envelope',
      sizes.envelope,
      '--request',
      sizes.request,
      '--answer',
      sizes.answer,
      '--other-answer',
      sizes.otherAnswer,
    ].map(String);
    const sockets = sharesProcess(this.wait === 'spin', point) ? point.replicas : 1;
    const servers = Array.from({ length: point.replicas / sockets }, (_, index) =>
      children.add(
        this.startServer(index, ['--sockets', String(sockets), '--first', String(index * sockets), ...common]),
      ),
    );
    const ports = (await Promise.all(servers.map((server) => server.ready<{ ports: number[] }>()))).flatMap(
      (ready) => ready.ports,
    );
    const load = [
      '--bind',
      clientAddress(this.placement),
      '--server',
      serverAddress(this.placement),
      '--ports',
      ports.slice(0, quorumOf(point.replicas)).join(','),
      '--open',
      String(point.open),
      '--per-datagram',
      String(sizes.perDatagram),
    ];
    const times = ['--warmup-ms', String(Math.min(WARMUP_MS, timing.warmupMs)), '--ms', String(timing.ms)];
    const clients = Array.from({ length: point.clients }, (_, index) =>
      children.add(
        LineChild.start(this.program.path, ['client', ...load, ...times, ...common], `C echo client ${index}`),
      ),
    );
    return await measureClients(
      clients,
      servers.map(({ pid }) => pid),
      quorumOf(point.replicas),
      timing,
    );
  }

  private startServer(index: number, flags: readonly string[]): LineChild {
    const command = [this.program.path, 'server', '--bind', serverAddress(this.placement), ...flags];
    const [file, ...args] = this.placement?.servers.prefixed(...command) ?? command;
    return LineChild.start(file!, args, `C echo server ${index}`);
  }
}
