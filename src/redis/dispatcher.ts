/**
 * Decides what becomes of each command of a connection: refused, answered here, or sent to the machine. The checks come in
 * Redis' order (processCommand): is it a command, has it enough arguments, is the client logged in, may it do that, is a
 * transaction being collected.
 *
 * The rule: words that clients repeat a command on (TRYAGAIN) are said only if it was surely not executed.
 */
import { KV_KEY_BYTES_MAX } from '../machine/kv-layout.js';
import { decodeWatched } from '../machine/redis/codec.js';
import { findCommand, hasArity, SUBCOMMANDS, type CommandInfo } from '../machine/redis/command-table.js';
import { isClientName } from './client-commands.js';
import type { Answer, Connection } from './connection.js';
import type { Front } from './front.js';
import { infoText } from './info.js';
import { localReply } from './local-commands.js';
import { forbidden, keyPositions, mayCountKeys } from './permissions.js';
import { CommandSpans, Found, textOf, type Refusal } from './resp-reader.js';
import { array, bulk, failure, integer, OK, QUEUED, simple, verbatim } from './resp-text.js';
import type { Stage } from './stage.js';
import { refusedToSubscriber, subscribe, unsubscribe } from './subscribe-commands.js';
import { isReadTracked } from './tracking.js';
import { argumentsOf, localAnswer, NO_RECEIVERS, Transaction, withLocalReplies } from './transaction.js';

/** Commands of a connection that one run looks at: other connections are served in between. */
const RUN_COMMANDS_MAX = 1000;
/** Replies that one run makes, bytes, beside the last: then they are sent, and the client has to read. */
const RUN_BYTES_MAX = 1 << 18;
/** Longest name in an error, and longest list of arguments. */
const SHOWN_MAX = 128;

/** `taken`: go on. `again`: the command stays the next one, for another run. `stop`: it is taken, and the run ends. */
type Step = 'taken' | 'again' | 'stop';

/** They are executed at once while a transaction is collected, as in Redis. */
const OUTSIDE = new Set(['exec', 'discard', 'multi', 'watch', 'quit', 'reset']);

export class Dispatcher {
  private readonly command = new CommandSpans();

  constructor(private readonly front: Front) {}

  /**
   * Takes commands of a connection until none is left, or the stage is full. Returns true if its next command waits for
   * an operation.
   */
  run(connection: Connection, stage: Stage): boolean {
    const { reader } = connection;
    const bytesEnd = connection.madeBytes + RUN_BYTES_MAX;
    for (let i = 0; i < RUN_COMMANDS_MAX && connection.madeBytes < bytesEnd; i++) {
      reader.unknown = connection.user === undefined;
      switch (reader.next(this.command)) {
        case Found.nothing:
          connection.isHungry = false;
          return false;
        case Found.fault:
          this.front.counters.protocolFaults++;
          connection.say(failure(reader.fault));
          connection.isClosing = true;
          return false;
        case Found.refused:
          reader.take();
          this.refusePassedOver(connection, reader.refusal!);
          continue;
      }
      const step = this.one(connection, stage);
      if (step === 'again') return !stage.isOpen;
      reader.take();
      if (step === 'stop' || connection.isClosing) return false;
    }
    return false;
  }

  private one(connection: Connection, stage: Stage): Step {
    const { command } = this;
    const { bytes, offsets, lengths, count } = command;
    const container = findCommand(bytes, offsets[0]!, lengths[0]!);
    if (container === undefined) return this.refuse(connection, command.text(0), unknownCommand(command));
    if (!hasArity(container, count))
      return container.name === 'exec'
        ? this.abort(connection, wrongArity(container))
        : this.refuse(connection, container.name, wrongArity(container));
    let info = container;
    if (CONTAINERS.has(container.name) && count > 1) {
      const sub = SUBCOMMANDS.get(`${container.name}|${command.text(1).toLowerCase()}`);
      if (sub === undefined) return this.refuse(connection, container.name, unknownSubcommand(command));
      if (!hasArity(sub, count)) return this.refuse(connection, sub.name, wrongArity(sub));
      info = sub;
    }
    if (connection.user === undefined && !info.flags.includes('no_auth'))
      return this.refuse(connection, info.name, 'NOAUTH Authentication required.');
    const { user } = connection;
    const denied = user === undefined ? undefined : forbidden(user, info, command);
    if (denied !== undefined) return this.refuse(connection, info.name, denied);
    const notNow = refusedToSubscriber(connection, info.name);
    if (notNow !== undefined) return this.refuse(connection, info.name, notNow);
    if (connection.transaction !== undefined && !OUTSIDE.has(info.name)) return this.queue(connection, info);
    const step =
      info.kind === 'local' || LOCAL_READS.has(info.name)
        ? this.local(connection, stage, info)
        : this.machine(connection, stage, info);
    const { tracking, transaction } = connection;
    // CLIENT CACHING is for the next command, or all of a transaction.
    if (
      tracking?.caching !== undefined &&
      step !== 'again' &&
      transaction === undefined &&
      info.name !== 'client|caching'
    )
      tracking.caching = undefined;
    return step;
  }

  private refuse(connection: Connection, name: string, why: string): Step {
    connection.begin(name);
    if (connection.transaction !== undefined) connection.transaction.isRefused = true;
    this.front.counters.refused++;
    connection.reply(failure(why));
    return 'taken';
  }

  /** EXEC itself is refused: the transaction is over. @param why begins with ERR */
  private abort(connection: Connection, why: string): Step {
    this.refuse(connection, 'exec', `EXECABORT Transaction discarded because of: ${why.slice('ERR '.length)}`);
    connection.transaction = undefined;
    connection.watched.clear();
    return 'taken';
  }

  private refusePassedOver(connection: Connection, { name, arguments: count, longest, bytes }: Refusal): void {
    const { argumentsMax, operationBytes } = this.front;
    const why =
      count > argumentsMax
        ? `ERR the command has ${count} arguments, this server takes ${argumentsMax}`
        : longest > operationBytes
          ? `ERR the value has ${longest} bytes, this cluster takes ${operationBytes}`
          : `ERR the command has ${bytes} bytes, this cluster takes ${operationBytes}`;
    this.refuse(connection, name, why);
  }

  private queue(connection: Connection, info: CommandInfo): Step {
    if (info.name === 'auth' || info.name === 'hello')
      return this.refuse(connection, info.name, 'ERR Command not allowed inside a transaction');
    if (FEEDS.has(info.name) || UNSUBSCRIBES.has(info.name) || info.name === 'client|tracking')
      return this.refuse(connection, info.name, `ERR ${info.name} is not served inside a transaction`);
    const transaction = connection.transaction!;
    if (!transaction.isRefused && !transaction.queue(info, this.command))
      return this.refuse(
        connection,
        info.name,
        `ERR the transaction has more than ${this.front.operationBytes} bytes, which this cluster does not take`,
      );
    connection.begin(info.name);
    connection.reply(QUEUED);
    return 'taken';
  }

  private machine(connection: Connection, stage: Stage, info: CommandInfo): Step {
    const { front, command } = this;
    if (info.name === 'watch' && connection.transaction !== undefined) {
      connection.begin(info.name);
      connection.reply(failure('ERR WATCH inside MULTI is not allowed'));
      return 'taken';
    }
    if (info.name === 'watch') {
      const longest = Math.max(...command.lengths.subarray(1, command.count));
      if (longest > KV_KEY_BYTES_MAX)
        return this.refuse(
          connection,
          info.name,
          `ERR the key has ${longest} bytes, this cluster takes 1 to ${KV_KEY_BYTES_MAX}`,
        );
    }
    if (!front.takesCommands) return this.unavailable(connection, info);
    if (!stage.isOpen || stage.count >= connection.runMost) return 'again';
    const isWriting = info.kind === 'write';
    const added = stage.command(command, connection.version, isWriting);
    if (added === 'full') return 'again';
    if (added === 'too-long') {
      const longest = Math.max(...command.lengths.subarray(0, command.count));
      return this.refuse(
        connection,
        info.name,
        `ERR the command has ${command.lengths.subarray(0, command.count).reduce((a, b) => a + b, 0)} bytes, its longest argument ${longest}; this cluster takes ${front.operationBytes}`,
      );
    }
    connection.begin(info.name);
    if (isWriting) front.counters.writes++;
    else front.counters.reads++;
    if (info.name !== 'watch') {
      connection.expect(this.answerOf(connection, info));
      return 'taken';
    }
    const keys = Array.from({ length: command.count - 1 }, (_, i) => command.copy(i + 1));
    connection.expect((reply) => this.watched(connection, keys, reply));
    // What follows may be the EXEC that needs the answer.
    return 'stop';
  }

  /** What else becomes of the machine's answer to the present command; undefined: nothing. */
  private answerOf(connection: Connection, info: CommandInfo): Answer | undefined {
    const { front, command } = this;
    const { trackers, subscriptions } = front.audience;
    if (info.name === 'publish') {
      const channel = command.text(1);
      return (reply) => (isText(reply, NO_RECEIVERS) ? integer(subscriptions.receivers(channel)) : reply);
    }
    if (info.kind === 'write') {
      if (!trackers.hasKeys) return undefined;
      const keys = keysOf(info, command);
      if (keys.length === 0) return undefined;
      return (reply) => {
        trackers.wrote(connection, keys, REPLACING.has(info.name) && isText(reply, OK));
        return reply;
      };
    }
    return isReadTracked(connection) ? this.trackedAnswer(connection, keysOf(info, command), '') : undefined;
  }

  /** @param begins how an answer begins that says something about the keys */
  private trackedAnswer(connection: Connection, keys: readonly string[], begins: string): Answer | undefined {
    if (keys.length === 0) return undefined;
    const { front } = this;
    const { trackers, feed } = front.audience;
    // Where the operation also writes, all that is known is that it is executed after what is known now.
    const base = Math.max(front.revision, feed.position);
    return (reply) => {
      const text = typeof reply === 'string' ? reply : textOf(reply, 0, 3);
      if (text.startsWith('-') || !text.startsWith(begins) || text === '*-1') return reply;
      const revision = front.answerRevision >= 0 ? front.answerRevision : base;
      // Behind the answer.
      queueMicrotask(() => trackers.answered(connection, keys, revision));
      return reply;
    };
  }

  /** SUBSCRIBE, PSUBSCRIBE, CLIENT TRACKING ON: what follows must not be missed, so the feed has a position first. */
  private withFeed(connection: Connection, stage: Stage, info: CommandInfo): Step {
    const { front } = this;
    const words = argumentTexts(this.command);
    // Replies that are still due must not come behind the first message.
    if (stage.count > 0) return 'again';
    const run = (): string =>
      info.name === 'client|tracking'
        ? localReply(front, connection, info, words)
        : subscribe(front, connection, words);
    const say = (text: string): void =>
      info.name === 'client|tracking' ? connection.reply(text) : connection.say(text);
    if (front.audience.feed.isOn) {
      connection.begin(info.name);
      say(run());
      front.counters.locals++;
      return 'taken';
    }
    if (!front.isConnected) return this.unavailable(connection, info);
    if (!stage.isOpen || stage.question(['ping'], connection.version) === 'full') return 'again';
    connection.begin(info.name);
    front.counters.locals++;
    connection.expect((reply) => {
      if (typeof reply === 'string') return reply;
      if (connection.isClosed) return undefined;
      front.audience.feed.begin(front.revision);
      say(run());
      // If that was an error, nobody needs the feed.
      front.audience.adjust();
      return undefined;
    });
    return 'stop';
  }

  private watched(
    connection: Connection,
    keys: readonly Uint8Array[],
    reply: Uint8Array | string,
  ): Uint8Array | string {
    const found = typeof reply === 'string' ? undefined : decodeWatched(reply, keys);
    if (found === undefined) return reply;
    const why = connection.watched.add(found, this.front.operationBytes);
    return why === undefined ? OK : failure(why);
  }

  private unavailable(connection: Connection, info: CommandInfo): Step {
    connection.begin(info.name);
    this.front.counters.tryAgain++;
    connection.reply(this.front.unavailable);
    return 'taken';
  }

  private local(connection: Connection, stage: Stage, info: CommandInfo): Step {
    const { command, front } = this;
    switch (info.name) {
      case 'multi':
        connection.begin(info.name);
        if (connection.transaction !== undefined) connection.reply(failure('ERR MULTI calls can not be nested'));
        else {
          connection.transaction = new Transaction(front.operationBytes);
          connection.reply(OK);
        }
        break;
      case 'discard':
        connection.begin(info.name);
        connection.reply(connection.transaction === undefined ? failure('ERR DISCARD without MULTI') : OK);
        if (connection.transaction !== undefined) connection.watched.clear();
        connection.transaction = undefined;
        break;
      case 'unwatch':
        connection.begin(info.name);
        connection.watched.clear();
        connection.reply(OK);
        break;
      case 'exec':
        return this.exec(connection, stage);
      case 'quit':
        connection.begin(info.name);
        connection.say(OK);
        connection.isClosing = true;
        break;
      case 'reset':
        connection.begin(info.name);
        connection.forgetSession();
        front.audience.forget(connection);
        connection.user = front.firstUser();
        connection.reply(simple('RESET'));
        break;
      case 'auth':
      case 'hello':
        return this.login(connection, stage, info);
      case 'info':
        return this.info(connection, stage, info);
      case 'subscribe':
      case 'psubscribe':
        return this.withFeed(connection, stage, info);
      case 'unsubscribe':
      case 'punsubscribe':
        if (stage.count > 0) return 'again';
        connection.begin(info.name);
        connection.say(unsubscribe(front, connection, argumentTexts(command)));
        break;
      case 'ping':
        connection.begin(info.name);
        if (connection.version === 2 && connection.subscriptions.count > 0 && command.count <= 2)
          connection.reply(array([bulk('pong'), bulk(command.count === 2 ? command.text(1) : '')]));
        else connection.reply(localReply(front, connection, info, argumentTexts(command)));
        break;
      default:
        if (info.name === 'client|tracking' && command.text(2).toLowerCase() === 'on')
          return this.withFeed(connection, stage, info);
        connection.begin(info.name);
        connection.reply(localReply(front, connection, info, argumentTexts(command)));
    }
    front.counters.locals++;
    return 'taken';
  }

  private exec(connection: Connection, stage: Stage): Step {
    const { front } = this;
    const { transaction, watched, version } = connection;
    const isLocal = transaction !== undefined && transaction.machineCount === 0 && watched.size === 0;
    const isSent = transaction !== undefined && !transaction.isRefused && !isLocal && front.takesCommands;
    if (isSent) {
      if (!stage.isOpen) return 'again';
      const added = stage.transaction(transaction, watched, version);
      if (added === 'full') return 'again';
      connection.begin('exec');
      connection.transaction = undefined;
      watched.clear();
      if (added === 'too-long') {
        front.counters.refused++;
        connection.reply(
          failure(
            `EXECABORT Transaction discarded because with its watched keys it has more than ${front.operationBytes} bytes, which this cluster does not take`,
          ),
        );
        return 'taken';
      }
      if (transaction.isWriting) front.counters.writes++;
      else front.counters.reads++;
      const noted = this.notedTransaction(connection, transaction);
      if (transaction.hasLocal)
        connection.expect((reply) =>
          withLocalReplies(transaction, noted(reply), (queued) =>
            localReply(front, connection, queued.info, argumentsOf(queued)),
          ),
        );
      else connection.expect(noted);
      return 'taken';
    }
    connection.begin('exec');
    connection.transaction = undefined;
    if (transaction === undefined) {
      connection.reply(failure('ERR EXEC without MULTI'));
      return 'taken';
    }
    watched.clear();
    if (transaction.isRefused) connection.reply(failure('EXECABORT Transaction discarded because of previous errors.'));
    else if (isLocal)
      connection.reply(
        localAnswer(transaction, (queued) => localReply(front, connection, queued.info, argumentsOf(queued))),
      );
    else {
      front.counters.tryAgain++;
      connection.reply(front.unavailable);
    }
    return 'taken';
  }

  /** What the trackers of keys learn from the answer, which stays as it is. */
  private notedTransaction(
    connection: Connection,
    { commands }: Transaction,
  ): (reply: Uint8Array | string) => Uint8Array | string {
    const { trackers } = this.front.audience;
    const same = (reply: Uint8Array | string): Uint8Array | string => reply;
    const isTracked = isReadTracked(connection);
    if (!isTracked && !trackers.hasKeys) return same;
    const keys = { read: new Set<string>(), write: new Set<string>() };
    for (const queued of commands) {
      const { info } = queued;
      if (info.kind === 'local') continue;
      const words = argumentsOf(queued);
      for (const key of keysOf(info, { count: words.length, text: (i) => words[i]! })) keys[info.kind].add(key);
    }
    const read = isTracked ? this.trackedAnswer(connection, [...keys.read], '*') : undefined;
    return (reply) => {
      if (keys.write.size > 0) trackers.wrote(connection, [...keys.write], false);
      read?.(reply);
      return reply;
    };
  }

  /** AUTH and HELLO: the second may have a login in it. Nothing of the connection is open while that is checked. */
  private login(connection: Connection, stage: Stage, info: CommandInfo): Step {
    const words = argumentTexts(this.command);
    const { front } = this;
    const asked = info.name === 'auth' ? authWords(words) : helloWords(words);
    if (typeof asked === 'string') return this.refuse(connection, info.name, asked);
    if (asked.login !== undefined && stage.count > 0) return 'again';
    connection.begin(info.name);
    const done = (): void => {
      if (info.name === 'auth') connection.reply(OK);
      else if (connection.user === undefined)
        connection.reply(
          failure(
            'NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH <user> <pass> option can be used to authenticate the client and select the RESP protocol version at the same time',
          ),
        );
      else {
        if (asked.name !== undefined) connection.name = asked.name;
        if (asked.version !== undefined) connection.version = asked.version;
        connection.reply(localReply(front, connection, info, words));
      }
    };
    if (asked.login === undefined) {
      done();
      return 'taken';
    }
    if (front.logins === undefined) {
      const why = front.withoutUsers(words.length === 2, asked.login.name);
      if (why === undefined) done();
      else connection.reply(failure(why));
      return 'taken';
    }
    connection.isBlocked = true;
    void front.login(connection, asked.login).then((why) => {
      connection.isBlocked = false;
      if (why === undefined) done();
      else connection.reply(failure(why));
      front.wake(connection);
    });
    return 'stop';
  }

  /** INFO tells how many keys there are: the cluster is asked, if it is there and the user may know. */
  private info(connection: Connection, stage: Stage, info: CommandInfo): Step {
    const { front } = this;
    const sections = argumentTexts(this.command).slice(1);
    const text = (): string => verbatim(connection.version, infoText(front, connection.user, sections));
    if (!front.isConnected || !mayCountKeys(connection.user)) {
      connection.begin(info.name);
      connection.reply(text());
      return 'taken';
    }
    if (!stage.isOpen || stage.question(['dbsize'], connection.version) === 'full') return 'again';
    connection.begin(info.name);
    front.counters.locals++;
    connection.expect((reply) => {
      front.noteKeys(reply);
      return text();
    });
    return 'taken';
  }
}

/** Commands that have subcommands in the table. */
const CONTAINERS = new Set([...SUBCOMMANDS.keys()].map((name) => name.slice(0, name.indexOf('|'))));
/** The machine knows them for transactions; alone they need no cluster. */
const LOCAL_READS = new Set(['ping', 'echo', 'select', 'time']);

/** Answered with OK, they have replaced the values of all their keys. */
const REPLACING = new Set(['set', 'mset', 'setex', 'psetex']);

/** They need the feed. */
const FEEDS = new Set(['subscribe', 'psubscribe']);
const UNSUBSCRIBES = new Set(['unsubscribe', 'punsubscribe']);

/** The keys of a command, a byte a character. WATCH reads none for its client. */
function keysOf(info: CommandInfo, command: Pick<CommandSpans, 'count' | 'text'>): string[] {
  if (info.kind === 'read' && !info.flags.includes('readonly')) return [];
  return (keyPositions(info, command) ?? []).map((at) => command.text(at));
}

function isText(reply: Uint8Array | string, text: string): boolean {
  return (typeof reply === 'string' ? reply : textOf(reply)) === text;
}

function argumentTexts(command: CommandSpans): string[] {
  return Array.from({ length: command.count }, (_, i) => command.text(i));
}

interface Asked {
  readonly version?: 2 | 3;
  readonly name?: string;
  readonly login?: { readonly name: string; readonly password: string };
}

/** A text: the error. */
function authWords(words: readonly string[]): Asked | string {
  if (words.length > 3) return 'ERR syntax error';
  return words.length === 2
    ? { login: { name: 'default', password: words[1]! } }
    : { login: { name: words[1]!, password: words[2]! } };
}

function helloWords(words: readonly string[]): Asked | string {
  let version: 2 | 3 | undefined;
  let name: string | undefined;
  let login: Asked['login'];
  let at = 1;
  if (words.length > 1) {
    if (!/^-?\d{1,18}$/.test(words[1]!)) return 'ERR Protocol version is not an integer or out of range';
    if (words[1] !== '2' && words[1] !== '3') return 'NOPROTO unsupported protocol version';
    version = words[1] === '2' ? 2 : 3;
    at = 2;
  }
  for (; at < words.length; at++) {
    const more = words.length - 1 - at;
    const option = words[at]!.toLowerCase();
    if (option === 'auth' && more >= 2) {
      login = { name: words[at + 1]!, password: words[at + 2]! };
      at += 2;
    } else if (option === 'setname' && more >= 1) {
      name = words[++at]!;
      if (!isClientName(name)) return 'ERR Client names cannot contain spaces, newlines or special characters.';
    } else return `ERR Syntax error in HELLO option '${words[at]}'`;
  }
  return {
    ...(version === undefined ? {} : { version }),
    ...(name === undefined ? {} : { name }),
    ...(login === undefined ? {} : { login }),
  };
}

function unknownCommand(command: CommandSpans): string {
  let shown = '';
  for (let i = 1; i < command.count && shown.length < SHOWN_MAX; i++)
    shown += `'${untilNul(command.text(i).slice(0, SHOWN_MAX - shown.length))}' `;
  return `ERR unknown command '${untilNul(command.text(0)).slice(0, SHOWN_MAX)}', with args beginning with: ${shown}`;
}

function unknownSubcommand(command: CommandSpans): string {
  return `ERR unknown subcommand '${untilNul(command.text(1)).slice(0, SHOWN_MAX)}'. Try ${command.text(0).toUpperCase()} HELP.`;
}

function wrongArity({ name }: CommandInfo): string {
  return `ERR wrong number of arguments for '${name}' command`;
}

/** C's texts end there. */
function untilNul(text: string): string {
  const end = text.indexOf('\0');
  return end < 0 ? text : text.slice(0, end);
}
