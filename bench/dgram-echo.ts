/**
 * The floor of what node:dgram can do in our shape: a client that sends one datagram to each of two echo processes,
 * waits for both answers, and sends the next. No protocol, no checks; datagrams as long as ours are on the wire.
 *
 * It is written as fast as dgram goes: the trivial `lookup` that spares the DNS path, no callbacks of send, buffers made
 * beforehand. A slower baseline would flatter us.
 *
 *   node dist/bench/dgram-echo.js --ops 50000 --size 64 [--json]
 */
import { fork, type ChildProcess } from 'node:child_process';
import { createSocket, type Socket } from 'node:dgram';
import { fileURLToPath } from 'node:url';
import { Histogram } from '../src/metrics/histogram.js';
import { hostInfo } from '../src/cli/load/report.js';
import { formatCount, formatDuration } from '../src/cli/units.js';
import { ENVELOPE_BYTES } from '../src/wire/envelope.js';
import { Reply, Request } from '../src/wire/messages.js';
import { program } from './program.js';

const SERVERS = 2;
const NS_PER_MS = 1e6;
const READY_TIMEOUT_MS = 10_000;
/** A datagram that loopback dropped is sent again; nothing else would ever go on. */
const RESEND_MS = 100;

type Lookup = (host: string, options: unknown, done: (error: null, address: string, family: number) => void) => void;
const numeric: Lookup = (host, _options, done) => done(null, host, 4);

/** What a process of this program is told. */
type Role = { readonly role: 'server'; readonly answerBytes: number } | { readonly role: 'client'; readonly ports: readonly number[]; readonly requestBytes: number; readonly operations: number; readonly warmup: number };

function open(): Promise<Socket> {
  const socket = createSocket({ type: 'udp4', lookup: numeric as never });
  return new Promise((resolve, reject) => socket.once('error', reject).bind(0, '127.0.0.1', () => resolve(socket)));
}

async function serve(answerBytes: number): Promise<void> {
  const socket = await open();
  const answer = Buffer.alloc(answerBytes);
  socket.on('message', (message, from) => {
    answer.writeInt32BE(message.readInt32BE(0), 0);
    socket.send(answer, 0, answerBytes, from.port, from.address);
  });
  process.send?.({ port: socket.address().port });
}

async function drive({ ports, requestBytes, operations, warmup }: Extract<Role, { role: 'client' }>): Promise<void> {
  const socket = await open();
  const request = Buffer.alloc(requestBytes);
  const histogram = new Histogram();
  let number = 0;
  let missing = 0;
  let sentAt = 0;
  let startedAt = 0;
  let resent = 0;
  const send = (): void => {
    for (const port of ports) socket.send(request, 0, requestBytes, port, '127.0.0.1');
  };
  const next = (): void => {
    if (number === warmup) {
      histogram.reset();
      startedAt = performance.now();
    }
    request.writeInt32BE(++number, 0);
    missing = ports.length;
    sentAt = performance.now();
    send();
  };
  const watch = setInterval(() => {
    if (performance.now() - sentAt < RESEND_MS) return;
    resent += 1;
    missing = ports.length;
    send();
  }, RESEND_MS);
  socket.on('message', (message) => {
    if (message.readInt32BE(0) !== number || --missing > 0) return;
    histogram.record((performance.now() - sentAt) * NS_PER_MS);
    if (number < warmup + operations) return next();
    clearInterval(watch);
    socket.close();
    process.send?.({ histogram: histogram.toData(), seconds: (performance.now() - startedAt) / 1000, resent });
    number = 0;
  });
  next();
}

interface Measured {
  readonly histogram: ReturnType<Histogram['toData']>;
  readonly seconds: number;
  readonly resent: number;
}

/** Runs the two servers and the client in processes of their own. */
export async function measureDgramEcho(size: number, operations: number, warmup: number): Promise<Measured & { readonly requestBytes: number; readonly answerBytes: number }> {
  const requestBytes = ENVELOPE_BYTES + Request.size + size;
  const answerBytes = ENVELOPE_BYTES + Reply.size + size;
  const children: ChildProcess[] = [];
  const killAll = (): void => children.forEach((child) => child.kill('SIGKILL'));
  process.once('exit', killAll);
  const start = (role: Role): ChildProcess => {
    const child = fork(fileURLToPath(import.meta.url), ['--role', JSON.stringify(role)], { stdio: ['ignore', 'inherit', 'inherit', 'ipc'], execArgv: [] });
    children.push(child);
    return child;
  };
  try {
    const servers = Array.from({ length: SERVERS }, () => start({ role: 'server', answerBytes }));
    const ports = await Promise.all(servers.map(async (server) => (await messageOf<{ port: number }>(server, READY_TIMEOUT_MS)).port));
    const client = start({ role: 'client', ports, requestBytes, operations, warmup });
    const measured = await messageOf<Measured>(client, READY_TIMEOUT_MS + operations + warmup);
    return { ...measured, requestBytes, answerBytes };
  } finally {
    killAll();
    process.removeListener('exit', killAll);
  }
}

function messageOf<T>(child: ChildProcess, timeoutMs: number): Promise<T> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`an echo process said nothing for ${timeoutMs / 1000} s; look at the load of this machine`)), timeoutMs);
    child.once('exit', (code, signal) => reject(new Error(`an echo process ended with ${signal ?? code}; run the bench again`)));
    child.once('error', reject);
    child.once('message', (message) => {
      clearTimeout(timer);
      resolve(message as T);
    });
  });
}

async function main(): Promise<void> {
  await program(
    {
      name: 'node dist/bench/dgram-echo.js',
      summary: 'Measures a bare node:dgram client with two echo processes: one operation open, waits for both answers.',
      positionals: [],
      flags: {
        ops: { kind: 'count', default: '50000', min: 1, max: 1e8, help: 'operations to measure' },
        warmup: { kind: 'count', default: '5000', max: 1e8, help: 'operations before these, not measured' },
        size: { kind: 'bytes', default: '64', max: 48 * 1024, help: 'bytes of the operation that a datagram of ours would carry' },
      },
      examples: ['node dist/bench/dgram-echo.js --ops 50000 --size 64 --json'],
    },
    async ({ ops, warmup, size }, output) => {
      const { histogram, seconds, resent, requestBytes, answerBytes } = await measureDgramEcho(size, ops, warmup);
      const latencyNs = Histogram.fromData(histogram).summary();
      const result = { schema: 'jitpaxos.dgram-echo/1', servers: SERVERS, operations: ops, warmupOperations: warmup, opBytes: size, requestBytes, answerBytes, seconds, opsPerSecond: ops / seconds, resent, latencyNs, host: hostInfo() };
      if (output.json) output.line(JSON.stringify(result));
      else output.line(`bare dgram, ${SERVERS} echo processes, ${requestBytes} bytes out, ${answerBytes} back: p50 ${formatDuration(latencyNs.p50)}, p99 ${formatDuration(latencyNs.p99)}, ${formatCount(ops / seconds)} operations/s, ${resent} resent`);
    },
  );
}

// As a child of itself it has a role; started by hand it is the program; imported it is neither.
if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const roleAt = process.argv.indexOf('--role');
  if (roleAt > 0 && process.send !== undefined) {
    process.once('disconnect', () => process.exit());
    const role = JSON.parse(process.argv[roleAt + 1]!) as Role;
    await (role.role === 'server' ? serve(role.answerBytes) : drive(role));
  } else {
    await main();
  }
}
