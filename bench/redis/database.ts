/**
 * What a load does, and how each contestant does it: over RESP, on a connection a lane, or over our own client, as many
 * operations of which are open as there are lanes.
 *
 * A record is done as YCSB's binding for Redis does it: a hash with a field each; with `index`, its key is also in one
 * sorted set, which scans read. Our own client keeps a record's fields together as one value of as many bytes, and scans
 * by key. So an update sends one field over RESP and a whole record over our own client.
 *
 * With `wait`, every write is followed by WAIT 1, in the same write to the socket.
 */
import { connect, type Socket } from 'node:net';
import { Client } from '../../src/client/client.js';
import { StoreClient } from '../../src/client/store-client.js';
import { silentLogger } from '../../src/host/logger.js';
import { Replies, type Reply } from './replies.js';

export type Target =
  | { readonly kind: 'resp'; readonly port: number; readonly wait: boolean; readonly index: boolean }
  | { readonly kind: 'own'; readonly cluster: string };

/** One operation at a time. All methods reject when the server answers with an error, or a key is not there. */
export interface Lane {
  get(key: string): Promise<unknown>;
  set(key: string, value: Buffer): Promise<unknown>;
  read(key: string): Promise<unknown>;
  /** Writes one of the fields; our own client writes them all. */
  update(key: string, field: number, fields: readonly Buffer[]): Promise<unknown>;
  insert(key: string, fields: readonly Buffer[]): Promise<unknown>;
  /** Up to `count` records, from this one on. */
  scan(key: string, count: number): Promise<unknown>;
}

export interface Database extends AsyncDisposable {
  readonly lanes: readonly Lane[];
}

export async function openDatabase(target: Target, lanes: number): Promise<Database> {
  return target.kind === 'own' ? OwnDatabase.open(target.cluster, lanes) : RespDatabase.open(target, lanes);
}

const LATIN = 'latin1';
const INDEX = '_indices';
const FIELD_NAMES = Array.from({ length: 10 }, (_, i) => `field${i}`);
const WAIT = commandOf(['WAIT', '1', '1000']);
/** A server that says nothing for so long is not waited for. */
const SILENCE_MS = 30_000;

/** A command's bytes. Texts are a byte a character. */
export function commandOf(words: readonly (string | Buffer)[]): Buffer {
  const parts: Buffer[] = [Buffer.from(`*${words.length}\r\n`, LATIN)];
  for (const word of words) {
    const bytes = typeof word === 'string' ? Buffer.from(word, LATIN) : word;
    parts.push(Buffer.from(`$${bytes.length}\r\n`, LATIN), bytes, Buffer.from('\r\n', LATIN));
  }
  return Buffer.concat(parts);
}

/** Java's String.hashCode, as YCSB's binding uses it for the score. */
export function javaHash(text: string): number {
  let hash = 0;
  for (let i = 0; i < text.length; i++) hash = (Math.imul(31, hash) + text.charCodeAt(i)) | 0;
  return hash;
}

export class RespLane implements Lane {
  private readonly replies = new Replies((reply) => this.found(reply));
  private open:
    | {
        left: number;
        readonly isNeeded: boolean;
        readonly answered: (texts: readonly string[]) => void;
        readonly failed: (error: Error) => void;
        readonly wantsTexts: boolean;
        texts: readonly string[];
      }
    | undefined;
  private failure: Error | undefined;

  private constructor(
    private readonly socket: Socket,
    private readonly isWaiting: boolean,
    private readonly hasIndex: boolean,
  ) {
    socket.setNoDelay(true);
    socket.on('data', (chunk: Buffer) => this.replies.push(chunk));
    socket.on('error', (error) => this.end(error));
    socket.on('close', () => this.end(new Error('the server closed the connection')));
    socket.setTimeout(SILENCE_MS, () => {
      if (this.open !== undefined) socket.destroy(new Error(`the server said nothing for ${SILENCE_MS / 1000} s`));
    });
  }

  static connect({ port, wait, index }: Omit<Extract<Target, { kind: 'resp' }>, 'kind'>): Promise<RespLane> {
    return new Promise((resolve, reject) => {
      const socket = connect({ port, host: '127.0.0.1' });
      socket.once('error', reject);
      socket.once('connect', () => {
        socket.off('error', reject);
        resolve(new RespLane(socket, wait, index));
      });
    });
  }

  get(key: string): Promise<unknown> {
    return this.send(commandOf(['GET', key]), 1, true);
  }

  set(key: string, value: Buffer): Promise<unknown> {
    return this.write(commandOf(['SET', key, value]));
  }

  read(key: string): Promise<unknown> {
    return this.send(commandOf(['HGETALL', key]), 1, true);
  }

  update(key: string, field: number, fields: readonly Buffer[]): Promise<unknown> {
    return this.write(commandOf(['HSET', key, FIELD_NAMES[field]!, fields[field]!]));
  }

  async insert(key: string, fields: readonly Buffer[]): Promise<unknown> {
    const record = commandOf(['HSET', key, ...fields.flatMap((field, i) => [FIELD_NAMES[i]!, field])]);
    if (!this.hasIndex) return this.write(record);
    await this.send(record, 1, false);
    return this.write(commandOf(['ZADD', INDEX, String(javaHash(key)), key]));
  }

  async scan(key: string, count: number): Promise<unknown> {
    const from = String(javaHash(key));
    const keys = await this.send(
      commandOf(['ZRANGEBYSCORE', INDEX, from, '+inf', 'LIMIT', '0', String(count)]),
      1,
      true,
      true,
    );
    for (const each of keys) await this.read(each);
    return keys;
  }

  /** Sends bytes that are answered by this many replies. Rejects at the first error among them. */
  send(bytes: Buffer, replies: number, isNeeded: boolean, wantsTexts = false): Promise<readonly string[]> {
    if (this.failure !== undefined) return Promise.reject(this.failure);
    return new Promise((answered, failed) => {
      this.open = { left: replies, isNeeded, answered, failed, wantsTexts, texts: [] };
      this.socket.write(bytes);
    });
  }

  close(): void {
    this.open = undefined;
    this.socket.destroy();
  }

  private write(command: Buffer): Promise<unknown> {
    // WAIT answers how many replicas have the write: not one is a failure, too. HSET answers 0 for a field that was there.
    return this.isWaiting ? this.send(Buffer.concat([command, WAIT]), 2, true) : this.send(command, 1, false);
  }

  private found(reply: Reply): void {
    const { open } = this;
    if (open === undefined) return this.end(new Error(`a reply that nobody asked for: ${reply.line}`));
    open.left--;
    const isLast = open.left === 0;
    if (reply.isError || (isLast && open.isNeeded && reply.isNothing)) {
      this.open = undefined;
      this.failure = new Error(
        reply.isError ? `the server answers ${reply.line}` : 'nothing is there, or no replica has it',
      );
      this.socket.destroy();
      open.failed(this.failure);
      return;
    }
    if (!isLast) return;
    this.open = undefined;
    open.answered(open.wantsTexts ? reply.texts() : []);
  }

  private end(error: Error): void {
    this.failure ??= error;
    this.open?.failed(this.failure);
    this.open = undefined;
  }
}

class RespDatabase implements Database {
  private constructor(readonly lanes: readonly RespLane[]) {}

  static async open(target: Extract<Target, { kind: 'resp' }>, lanes: number): Promise<RespDatabase> {
    return new RespDatabase(await Promise.all(Array.from({ length: lanes }, () => RespLane.connect(target))));
  }

  [Symbol.asyncDispose](): Promise<void> {
    for (const lane of this.lanes) lane.close();
    return Promise.resolve();
  }
}

class OwnDatabase implements Database {
  readonly lanes: readonly Lane[];

  private constructor(
    private readonly client: Client,
    lanes: number,
  ) {
    const store = new StoreClient(client);
    const get = async (key: string): Promise<unknown> => {
      const found = await store.get(OWN + key);
      if (found === undefined) throw new Error('nothing is there');
      return found;
    };
    const lane: Lane = {
      get,
      set: (key, value) => store.put(OWN + key, value),
      read: get,
      update: (key, _, fields) => store.put(OWN + key, Buffer.concat(fields)),
      insert: (key, fields) => store.put(OWN + key, Buffer.concat(fields)),
      scan: async (key, count) => {
        let from: string | Uint8Array | undefined = OWN + key;
        for (let left = count; from !== undefined && left > 0; ) {
          const { entries, next } = await store.scan({ from, to: OWN_END, limit: Math.min(left, SCAN_MAX) });
          left -= entries.length;
          from = next;
        }
      },
    };
    this.lanes = Array.from({ length: lanes }, () => lane);
  }

  static async open(cluster: string, lanes: number): Promise<OwnDatabase> {
    return new OwnDatabase(await Client.connect({ cluster, lanes, logger: silentLogger }), lanes);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.client.close();
  }
}

/** Our own client's keys: the front end has keys of the same names in the same cluster, of other types. */
const OWN = 'own/';
const OWN_END = 'own0';
/** Records of a page, so that it fits a result. */
const SCAN_MAX = 40;
