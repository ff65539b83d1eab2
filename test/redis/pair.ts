/** A connection to Redis and one to the front end, which get the same commands; what differs is judged. */
import { RULES, type Deviation, type Difference } from './deviations.js';
import type { Words } from './random-commands.js';
import { commandBytes, readReply, RespClient, shown, type Reply } from './resp-client.js';

/** How many of the last commands a report shows. */
const LAST = 12;

/** After these, the two no longer hold the same. */
const APART = new Set(['empty-key']);

export class Judge {
  readonly used = new Map<string, number>();
  readonly reports: string[] = [];
  readonly #last: string[] = [];
  compared = 0;
  readonly names = new Set<string>();

  constructor(private readonly deviations: readonly Deviation[]) {}

  /** Judges one command's replies. Returns false if the two have to begin anew: they differ and no deviation says so, or it does and they hold different keys now. */
  judge(words: Words, redis: Reply, ours: Reply): boolean {
    this.compared++;
    const name = words[0]!.toLowerCase();
    this.names.add(name);
    const line = `${words.map((word) => JSON.stringify(word)).join(' ')}`;
    this.#last.push(`${line} → ${shown(redis)}`);
    if (this.#last.length > LAST) this.#last.shift();
    if (isSame(redis, ours)) return true;
    const difference: Difference = { words, redis, ours };
    const full = `${name}|${words[1]?.toLowerCase()}`;
    for (const { id, commands } of this.deviations) {
      if (!commands.some((one) => one === '*' || one === name || one === full)) continue;
      if (RULES[id]?.(difference) !== true) continue;
      this.used.set(id, (this.used.get(id) ?? 0) + 1);
      return !APART.has(id);
    }
    this.reports.push(
      `${line}\n   Redis ${shown(redis)}\n   ours  ${shown(ours)}\n   after ${this.#last.slice(0, -1).join('\n         ')}`,
    );
    return false;
  }
}

function isSame(a: Reply, b: Reply): boolean {
  return (
    a.kind === b.kind &&
    a.text === b.text &&
    a.items.length === b.items.length &&
    a.items.every((item, i) => isSame(item, b.items[i]!))
  );
}

export class Pair {
  private constructor(
    readonly redis: RespClient,
    readonly ours: RespClient,
    readonly judge: Judge,
  ) {}

  static async connect(redisPort: number, oursPort: number, protocol: 2 | 3, judge: Judge): Promise<Pair> {
    const [redis, ours] = await Promise.all([RespClient.connect(redisPort), RespClient.connect(oursPort)]);
    if (protocol === 3) await Promise.all([redis.raw('HELLO', '3'), ours.raw('HELLO', '3')]);
    return new Pair(redis, ours, judge);
  }

  close(): void {
    this.redis.close();
    this.ours.close();
  }

  /** The replies of both, not judged. */
  async ask(...words: string[]): Promise<readonly [Reply, Reply]> {
    return Promise.all([this.redis.reply(...words), this.ours.reply(...words)]);
  }

  /** Sends to both. Returns what Redis says; undefined: they have to begin anew. */
  async both(...words: string[]): Promise<Reply | undefined> {
    const bytes = commandBytes(words);
    this.redis.socket.write(bytes);
    this.ours.socket.write(bytes);
    const [redisRaw, oursRaw] = await Promise.all([this.redis.next(), this.ours.next()]);
    const redis = readReply(redisRaw, 0)!.reply;
    const isRight = this.judge.judge(words, redis, redisRaw.equals(oursRaw) ? redis : readReply(oursRaw, 0)!.reply);
    return isRight ? redis : undefined;
  }

  /** MULTI, these commands, EXEC. Each element of the answer is judged as the command's. Undefined: they differ. */
  async transaction(commands: readonly Words[], end: 'EXEC' | 'DISCARD'): Promise<Reply | undefined> {
    if ((await this.both('MULTI')) === undefined) return undefined;
    const queued: Words[] = [];
    let isRight = true;
    for (const words of commands) {
      const reply = await this.both(...words);
      if (reply === undefined) isRight = false;
      else if (reply.text === 'QUEUED') queued.push(words);
    }
    const [redis, ours] = await this.ask(end);
    if (!isRight) return undefined;
    if (redis.items.length !== queued.length || ours.items.length !== queued.length || redis.kind !== ours.kind)
      return this.judge.judge([end], redis, ours) ? redis : undefined;
    for (const [i, words] of queued.entries())
      if (!this.judge.judge(words, redis.items[i]!, ours.items[i]!)) isRight = false;
    return isRight ? redis : undefined;
  }
}
