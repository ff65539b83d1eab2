/**
 * Whether a process of another pid namespace is alive. Each container has such a namespace, and its pids mean nothing
 * outside.
 *
 * A process listens on a socket in the file system for as long as it lives; the kernel closes it when the process dies,
 * however that happens. A process of any namespace that sees the same file on the same kernel can connect, even while
 * the listener is stopped: connections wait in its queue. A socket without a listener refuses.
 *
 * In the first pid namespace of a host no process listens: there, and in containers that share it, pids are enough.
 */
import { spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { closeSync, openSync, readlinkSync, unlinkSync } from 'node:fs';
import { createServer, type Server } from 'node:net';
import { join } from 'node:path';

const NAME = /^lock\.alive\.[0-9a-f]{12}$/;
/** The namespace that the kernel starts with (PROC_PID_INIT_INO in include/linux/proc_ns.h). */
const FIRST_NAMESPACE = 'pid:[4026531836]';
/** It takes a process of its own, which a busy host may not run for seconds. */
const ASK_MS = 20_000;
/** Longest path of a socket, bytes (unix(7), sun_path including the final zero). */
const PATH_MAX_BYTES = 107;

/** Checks by connecting. Node can connect only asynchronously, so this runs in a process of its own. */
const ASK =
  "require('node:net').connect(process.argv[1]).on('connect', () => process.exit(10)).on('error', (error) => process.exit(error.code === 'ECONNREFUSED' ? 11 : 12))";

/** The pid namespace of this process; '' without /proc. */
export function pidNamespace(): string {
  try {
    return readlinkSync('/proc/self/ns/pid');
  } catch {
    return '';
  }
}

export class LifeSign {
  private constructor(
    readonly name: string,
    private readonly directory: string,
    private readonly server: Server,
  ) {}

  /** Undefined if no life sign is needed, or none can be created. */
  static begin(directory: string): LifeSign | undefined {
    if (['', FIRST_NAMESPACE].includes(pidNamespace())) return undefined;
    const name = `lock.alive.${randomBytes(6).toString('hex')}`;
    const server = createServer((socket) => socket.destroy());
    server.on('error', () => undefined); // without a socket there is no life sign
    shortened(directory, name, (path) => server.listen(path));
    server.unref();
    return server.listening ? new LifeSign(name, directory, server) : undefined;
  }

  static isName(name: unknown): name is string {
    return typeof name === 'string' && NAME.test(name);
  }

  /**
   * State of the process that listens at `name`. Unknown: the file is gone, or may not be opened. Unasked: this host did not
   * come to ask within `askMs`.
   */
  static of(directory: string, name: string, askMs = ASK_MS): 'alive' | 'dead' | 'unknown' | 'unasked' {
    const { status, error } = shortened(directory, name, (path, descriptor) => {
      const inChild = descriptor < 0 ? path : `/proc/self/fd/3/${name}`;
      return spawnSync(process.execPath, ['-e', ASK, inChild], {
        timeout: askMs,
        stdio: ['ignore', 'ignore', 'ignore', ...(descriptor < 0 ? [] : [descriptor])],
      });
    });
    if ((error as NodeJS.ErrnoException | undefined)?.code === 'ETIMEDOUT') return 'unasked';
    return status === 10 ? 'alive' : status === 11 ? 'dead' : 'unknown';
  }

  end(): void {
    this.server.close();
    try {
      unlinkSync(join(this.directory, this.name));
    } catch {
      // Closing may have removed it already.
    }
  }
}

/**
 * Calls `use` with a path short enough for a socket. A long path goes through a descriptor of the directory, which a
 * child process gets as its descriptor 3.
 */
function shortened<T>(directory: string, name: string, use: (path: string, descriptor: number) => T): T {
  const path = join(directory, name);
  if (Buffer.byteLength(path) <= PATH_MAX_BYTES) return use(path, -1);
  const descriptor = openSync(directory, 'r');
  try {
    return use(`/proc/self/fd/${descriptor}/${name}`, descriptor);
  } finally {
    closeSync(descriptor);
  }
}
