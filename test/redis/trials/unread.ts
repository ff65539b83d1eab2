/** Clients that ask for long values without end and never read a reply, while another one works. */
import { connect, type Socket } from 'node:net';
import { commandBytes, RespClient } from '../resp-client.js';
import { FrontEndProcess } from './front-end-process.js';

const VALUE_BYTES = 32_000;
/** Commands of a client, 150 MB of replies. */
const GETS = 5_000;

export interface UnreadResult {
  readonly clients: number;
  readonly seconds: number;
  /** Clients that the front end has closed. */
  readonly closed: number;
  /** What the other client did, and the longest time that one of its commands took, ms. */
  readonly served: number;
  readonly longestMs: number;
  /** Of the front end, MiB: before, at most, and 2 s after all of these clients had left. */
  readonly memory: {
    readonly before: number | undefined;
    readonly most: number | undefined;
    readonly after: number | undefined;
  };
  readonly wrong: string | undefined;
}

export async function unread(seed: number, clients: number, seconds: number): Promise<UnreadResult> {
  await using front = await FrontEndProcess.start(seed);
  const other = await RespClient.connect(front.port);
  await other.reply('SET', 'long', 'v'.repeat(VALUE_BYTES));
  const before = front.memory();
  const gets = Buffer.concat(Array<Buffer>(GETS).fill(commandBytes(['GET', 'long'])));
  let closed = 0;
  let isOver = false;
  const sockets = await Promise.all(
    Array.from({ length: clients }, async () => {
      const socket: Socket = connect({ port: front.port, host: '127.0.0.1' });
      socket.on('error', () => undefined);
      await new Promise<void>((resolve) => socket.once('connect', resolve));
      socket.on('close', () => !isOver && closed++);
      socket.pause();
      socket.write(gets);
      return socket;
    }),
  );
  const endMs = performance.now() + seconds * 1000;
  let served = 0;
  let longestMs = 0;
  let wrong: string | undefined;
  while (performance.now() < endMs && wrong === undefined) {
    const startedMs = performance.now();
    const replies = await Promise.all([other.say('SET', 'own', String(served)), other.say('GET', 'own')]).catch(
      (error: Error) => [error.message],
    );
    longestMs = Math.max(longestMs, performance.now() - startedMs);
    if (replies.join() !== `+"OK",$"${served}"`) wrong = replies.join(', ');
    served++;
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
  const most = front.memory()?.mostMiB;
  isOver = true;
  for (const socket of sockets) socket.destroy();
  await new Promise((resolve) => setTimeout(resolve, 2_000));
  const after = front.memory()?.nowMiB;
  other.close();
  return {
    clients,
    seconds,
    closed,
    served,
    longestMs,
    memory: { before: before?.nowMiB, most, after },
    wrong: wrong ?? front.fallen,
  };
}
