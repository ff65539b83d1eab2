/** One connection that sends very many commands before it reads a reply: each has its reply, in order. */
import { connect } from 'node:net';
import { FrontEndProcess } from './front-end-process.js';

/** The key that its INCRs count in, and one that is written and read. */
const COUNTER = 'count';
const KEY = 'key';

export interface PipelineResult {
  readonly commands: number;
  readonly seconds: number;
  /** Of the front end, MiB. */
  readonly memory: { readonly before: number | undefined; readonly most: number | undefined };
  /** The first reply that is not the expected one. */
  readonly wrong: string | undefined;
}

export async function longPipeline(seed: number, commands: number): Promise<PipelineResult> {
  await using front = await FrontEndProcess.start(seed);
  const sent: string[] = [];
  const expected: string[] = [];
  let counted = 0;
  while (sent.length < commands) {
    const i = sent.length;
    switch (i % 4) {
      case 0:
        sent.push(`*2\r\n$4\r\nINCR\r\n$${COUNTER.length}\r\n${COUNTER}\r\n`);
        expected.push(`:${++counted}\r\n`);
        break;
      case 1:
        sent.push(`*3\r\n$3\r\nSET\r\n$${KEY.length}\r\n${KEY}\r\n$${String(i).length}\r\n${i}\r\n`);
        expected.push('+OK\r\n');
        break;
      case 2:
        sent.push(`*2\r\n$3\r\nGET\r\n$${KEY.length}\r\n${KEY}\r\n`);
        expected.push(`$${String(i - 1).length}\r\n${i - 1}\r\n`);
        break;
      case 3:
        sent.push(`ECHO ${i}\r\n`);
        expected.push(`$${String(i).length}\r\n${i}\r\n`);
        break;
    }
  }
  const socket = connect({ port: front.port, host: '127.0.0.1' });
  await new Promise<void>((resolve, reject) => socket.once('connect', resolve).once('error', reject));
  const before = front.memory();
  const startedMs = performance.now();
  const replies: Buffer[] = [];
  let length = 0;
  const expectedText = expected.join('');
  const ended = new Promise<void>((resolve) => {
    socket.on('close', () => resolve());
    socket.on('data', (chunk) => {
      replies.push(chunk);
      length += chunk.length;
      if (length >= expectedText.length) resolve();
    });
  });
  socket.write(sent.join(''));
  await ended;
  const seconds = (performance.now() - startedMs) / 1000;
  socket.destroy();
  const text = Buffer.concat(replies).toString('latin1');
  let wrong: string | undefined;
  if (text !== expectedText) {
    const at = [...text].findIndex((character, i) => character !== expectedText[i]);
    wrong = `after ${at} characters ${JSON.stringify(text.slice(at, at + 40))}, not ${JSON.stringify(expectedText.slice(at, at + 40))}`;
  }
  wrong ??= front.fallen;
  return { commands, seconds, memory: { before: before?.nowMiB, most: front.memory()?.mostMiB }, wrong };
}
