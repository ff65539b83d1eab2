/**
 * A client of the tests' own, so that nothing is judged by the code that is tested: it sends arrays of bulk strings and
 * gives each reply as the bytes that came.
 */
import { connect, type Socket } from 'node:net';

/** A reply, read. `text` is a byte a character; null stands for the null of RESP2. Maps have keys and values in `items`. */
export interface Reply {
  readonly kind: string;
  readonly text: string | null;
  readonly items: readonly Reply[];
}

const AGGREGATES = new Set(['*', '~', '%', '>', '|']);
const BULKS = new Set(['$', '=', '!']);

/** The reply that begins at `at`, and where it ends. Undefined: not all of it is there. */
export function readReply(bytes: Buffer, at: number): { readonly reply: Reply; readonly end: number } | undefined {
  const lineEnd = bytes.indexOf('\r\n', at);
  if (lineEnd < 0) return undefined;
  const kind = String.fromCharCode(bytes[at]!);
  const line = bytes.toString('latin1', at + 1, lineEnd);
  let end = lineEnd + 2;
  if (BULKS.has(kind)) {
    const length = Number(line);
    if (length < 0) return { reply: { kind, text: null, items: [] }, end };
    if (bytes.length < end + length + 2) return undefined;
    return { reply: { kind, text: bytes.toString('latin1', end, end + length), items: [] }, end: end + length + 2 };
  }
  if (!AGGREGATES.has(kind)) {
    if (!'+-:_#,('.includes(kind))
      throw new Error(`no reply begins with ${JSON.stringify(kind)} ${JSON.stringify(line)}`);
    return { reply: { kind, text: line, items: [] }, end };
  }
  const count = Number(line) * (kind === '%' || kind === '|' ? 2 : 1);
  if (count < 0) return { reply: { kind, text: null, items: [] }, end };
  const items: Reply[] = [];
  for (let i = 0; i < count; i++) {
    const item = readReply(bytes, end);
    if (item === undefined) return undefined;
    items.push(item.reply);
    end = item.end;
  }
  return { reply: { kind, text: line, items }, end };
}

/** The bytes of a command. Texts are a byte a character. */
export function commandBytes(words: readonly string[]): Buffer {
  return Buffer.from(`*${words.length}\r\n${words.map((word) => `$${word.length}\r\n${word}\r\n`).join('')}`, 'latin1');
}

/** A reply on one line, for people. */
export function shown({ kind, text, items }: Reply): string {
  if (items.length > 0) return `${kind}[${items.map(shown).join(' ')}]`;
  return `${kind}${text === null ? 'null' : JSON.stringify(text)}`;
}

export class RespClient {
  #bytes: Buffer = Buffer.alloc(0);
  #chunks: Buffer[] = [];
  readonly #waiting: { readonly resolve: (raw: Buffer) => void; readonly reject: (error: Error) => void }[] = [];
  #failure: Error | undefined;

  private constructor(readonly socket: Socket) {
    socket.setNoDelay(true);
    socket.on('data', (chunk) => {
      this.#chunks.push(chunk);
      this.#take();
    });
    socket.on('error', (error) => this.#end(error));
    socket.on('close', () => this.#end(new Error('the server closed the connection')));
  }

  static connect(port: number, host = '127.0.0.1'): Promise<RespClient> {
    return new Promise((resolve, reject) => {
      const socket = connect({ port, host });
      socket.once('error', reject);
      socket.once('connect', () => {
        socket.off('error', reject);
        resolve(new RespClient(socket));
      });
    });
  }

  /** The next reply's bytes, after those that are already waited for. */
  next(): Promise<Buffer> {
    if (this.#failure !== undefined) return Promise.reject(this.#failure);
    const reply = new Promise<Buffer>((resolve, reject) => this.#waiting.push({ resolve, reject }));
    this.#take();
    return reply;
  }

  /** The reply's bytes. */
  raw(...words: string[]): Promise<Buffer> {
    this.socket.write(commandBytes(words));
    return this.next();
  }

  async reply(...words: string[]): Promise<Reply> {
    return readReply(await this.raw(...words), 0)!.reply;
  }

  /** The reply as a text of one line. */
  async say(...words: string[]): Promise<string> {
    return shown(await this.reply(...words));
  }

  close(): void {
    this.socket.destroy();
  }

  #take(): void {
    if (this.#waiting.length === 0) return;
    if (this.#chunks.length > 0) {
      this.#bytes = Buffer.concat([this.#bytes, ...this.#chunks]);
      this.#chunks = [];
    }
    let at = 0;
    while (this.#waiting.length > 0 && at < this.#bytes.length) {
      const found = readReply(this.#bytes, at);
      if (found === undefined) break;
      this.#waiting.shift()!.resolve(this.#bytes.subarray(at, found.end));
      at = found.end;
    }
    this.#bytes = this.#bytes.subarray(at);
  }

  #end(error: Error): void {
    this.#failure ??= error;
    for (const { reject } of this.#waiting.splice(0)) reject(this.#failure);
  }
}
