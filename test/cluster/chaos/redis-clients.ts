/**
 * Clients of a chaos run over Redis front ends: ioredis as it is when nothing is set, and one of the tests' own that knows
 * nothing but the protocol.
 *
 * What is different between them is what becomes of a command whose connection ends. ioredis sends it again on the next
 * connection, so that it may be executed twice; the other gives it up, so that it is executed once or not at all.
 */
import type { Random } from '../../../src/sim/random.js';
import { RespClient, type Reply } from '../../redis/resp-client.js';
import { sleep } from './verdict.js';

/** A reply as texts. */
export type Value = string | null | readonly Value[];

/** `error`: the words of the server, or of the client itself. `lost`: the connection ended, and nothing is known. */
export type Outcome = { readonly value: Value } | { readonly error: string } | 'lost';

export interface RedisClient {
  readonly name: string;
  /** Connections that ended. A command that was open then may have been sent once more for each. */
  readonly closes: number;
  /** It repeats commands by itself. */
  readonly repeats: boolean;
  ask(words: readonly string[]): Promise<Outcome>;
  /** MULTI, these commands, EXEC: the array of EXEC, or null. */
  transaction(commands: readonly (readonly string[])[]): Promise<Outcome>;
  close(): void;
}

/** What is used of ioredis. Its types are not those of this project's compiler options. */
interface Ioredis {
  on(event: string, listener: (error: Error) => void): void;
  call(...words: readonly string[]): Promise<unknown>;
  multi(): { call(...words: readonly string[]): unknown; exec(): Promise<[Error | null, unknown][] | null> };
  disconnect(): void;
}

/** Whether `npm ci` has installed it. */
export async function hasIoredis(): Promise<boolean> {
  return import('ioredis' as string).then(
    () => true,
    () => false,
  );
}

export class IoredisClient implements RedisClient {
  readonly repeats = true;
  closes = 0;

  private constructor(
    readonly name: string,
    private readonly redis: Ioredis,
  ) {
    redis.on('close', () => this.closes++);
    redis.on('error', () => undefined); // connections that fail: it connects again by itself
  }

  static async connect(name: string, port: number): Promise<IoredisClient> {
    const { Redis } = (await import('ioredis' as string)) as {
      Redis: new (options: { port: number; host: string }) => Ioredis;
    };
    return new IoredisClient(name, new Redis({ port, host: '127.0.0.1' }));
  }

  async ask(words: readonly string[]): Promise<Outcome> {
    try {
      return { value: fromIoredis(await this.redis.call(...words)) };
    } catch (error) {
      return { error: (error as Error).message };
    }
  }

  async transaction(commands: readonly (readonly string[])[]): Promise<Outcome> {
    const multi = this.redis.multi();
    for (const words of commands) multi.call(...words);
    try {
      const results = await multi.exec();
      if (results === null) return { value: null };
      const failed = results.find(([error]) => error !== null);
      if (failed !== undefined) return { error: failed[0]!.message };
      return { value: results.map(([, result]) => fromIoredis(result)) };
    } catch (error) {
      return { error: (error as Error).message };
    }
  }

  close(): void {
    this.redis.disconnect();
  }
}

export class RawClient implements RedisClient {
  readonly repeats = false;
  closes = 0;
  private connection: Promise<RespClient> | undefined;
  private isClosed = false;

  /** @param ports front ends: each connection goes to one of them */
  constructor(
    readonly name: string,
    private readonly ports: readonly number[],
    private readonly random: Random,
  ) {}

  async ask(words: readonly string[]): Promise<Outcome> {
    return this.over(async (connection) => outcomeOf(await connection.reply(...words)));
  }

  async transaction(commands: readonly (readonly string[])[]): Promise<Outcome> {
    return this.over(async (connection) => {
      const replies = await Promise.all([['MULTI'], ...commands, ['EXEC']].map((words) => connection.reply(...words)));
      return outcomeOf(replies.at(-1)!);
    });
  }

  close(): void {
    this.isClosed = true;
    void this.connection?.then((connection) => connection.close());
  }

  private async over(ask: (connection: RespClient) => Promise<Outcome>): Promise<Outcome> {
    this.connection ??= this.connect();
    const { connection } = this;
    try {
      return await ask(await connection);
    } catch {
      if (this.connection === connection) {
        this.closes++;
        this.connection = undefined;
      }
      return 'lost';
    }
  }

  private async connect(): Promise<RespClient> {
    for (;;) {
      try {
        return await RespClient.connect(this.random.pick(this.ports));
      } catch (error) {
        if (this.isClosed) throw error;
        await sleep(this.random.between(5, 50));
      }
    }
  }
}

function outcomeOf(reply: Reply): Outcome {
  if (reply.kind === '-') return { error: reply.text! };
  return { value: textsOf(reply) };
}

function textsOf({ kind, text, items }: Reply): Value {
  return kind === '*' && text !== null ? items.map(textsOf) : text;
}

function fromIoredis(value: unknown): Value {
  if (Array.isArray(value)) return value.map(fromIoredis);
  return value === null || value === undefined ? null : String(value);
}
