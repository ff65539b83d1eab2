/**
 * Puts the commands of many connections into few operations, and hands the answers back.
 *
 * In each pass of the event loop every connection without an open operation gives the run of its next commands. Runs that
 * only read go into read operations, the others into write operations, in the order of connections; each operation is no
 * longer than what one datagram carries, unless a single command is.
 *
 * The rule, *fair*: a pass ends after some commands or bytes of replies, whoever they are for. Whose turn has not come
 * then is first in the next pass, and the event loop goes round in between.
 *
 * The rule (S), *order*: a connection has one operation open at most. The machine executes the commands of an operation in
 * their order and stops before one whose answer might not fit; the rest is sent again before anything else of those
 * connections.
 *
 * The rule, *what is not known*: an operation with a write that ends without a certain answer may have been executed, and
 * its commands are answered with INDOUBT. TRYAGAIN is said only where nothing was executed, or nothing can have changed.
 */
import { JitPaxosError } from '../errors.js';
import {
  CommandsEncoder,
  decodeCommandsResult,
  type CommandsHead,
  type CommandsResult,
} from '../machine/redis/codec.js';
import { COMMANDS_BYTES, CommandsAt } from '../machine/redis/layout.js';
import { writeU16 } from '../wire/u64.js';
import type { Connection } from './connection.js';
import { Dispatcher } from './dispatcher.js';
import type { Front, Store } from './front.js';
import { RandomWords } from './random-words.js';
import { failure } from './resp-text.js';
import { Stage } from './stage.js';

/** Codes of a rejected call that say that the operation was not executed. */
const NOT_EXECUTED = new Set(['aborted', 'busy', 'client-closed', 'operation-refused']);
const IN_DOUBT = new Set(['outcome-unknown', 'session-lost']);

/** Commands, and bytes of replies that the front end makes, of one pass, beside the last run. A run counts at least 1. */
const PASS_COMMANDS_MAX = 10_000;
const PASS_BYTES_MAX = 1 << 20;

const FEATURE_OFF = failure(
  'ERR the feature redis is off in this cluster; switch it on with jitpaxos features enable redis',
);

class Operation {
  readonly bytes: Uint8Array;
  length = 0;
  /** For each command: whose it is, and where it begins. */
  readonly owners: Connection[] = [];
  readonly starts: number[] = [];
  isWriting = false;
  /** It only reads, and is sent as an operation: what the query answered, for a client whose key may not write. */
  byQuery: readonly Uint8Array[] | undefined;
  store: Store | undefined;

  constructor(bytesMax: number) {
    this.bytes = new Uint8Array(bytesMax);
  }
}

export interface BatcherEvents {
  /** A call was rejected in a way that says that the client cannot be used any more. */
  broken(store: Store, error: unknown): void;
  /** An operation was understood, or not: the feature is on, or off. */
  feature(isOn: boolean): void;
  /** A bug: the connections that were concerned are closed, the others go on. */
  bug(error: unknown): void;
}

export class Batcher {
  private readonly ready = new Set<Connection>();
  /** The last pass ended before their turn. */
  private left = new Set<Connection>();
  /** Their next command waits for an operation. */
  private readonly waiting = new Set<Connection>();
  private readonly stage: Stage;
  private readonly dispatcher: Dispatcher;
  private readonly encoder = new CommandsEncoder();
  private readonly spare: Operation[] = [];
  private readonly random = new RandomWords();
  private reading: Operation | undefined;
  private writing: Operation | undefined;
  private open = 0;
  private isScheduled = false;

  constructor(
    private readonly front: Front,
    private readonly events: BatcherEvents,
  ) {
    const { batchBytes, operationBytes } = front.options;
    this.stage = new Stage(Math.min(batchBytes, operationBytes), operationBytes);
    this.dispatcher = new Dispatcher(front);
  }

  /** Operations without an answer. */
  get openOperations(): number {
    return this.open;
  }

  /** Connections whose commands wait for an operation. */
  get waitingConnections(): number {
    return this.waiting.size;
  }

  /** The connection may have commands that can be taken. */
  wake(connection: Connection): void {
    if (!connection.mayGoOn || !connection.hasInput) {
      connection.flush();
      return;
    }
    connection.breathe();
    this.ready.add(connection);
    this.schedule();
  }

  /** What commands waited for may be there now. */
  resume(): void {
    if (this.waiting.size > 0) this.schedule();
  }

  forget(connection: Connection): void {
    this.ready.delete(connection);
    this.left.delete(connection);
    this.waiting.delete(connection);
  }

  private schedule(): void {
    if (this.isScheduled) return;
    this.isScheduled = true;
    setImmediate(this.pass);
  }

  private readonly pass = (): void => {
    this.isScheduled = false;
    const { ready, waiting, stage, front } = this;
    const now = this.left;
    this.left = new Set();
    if (waiting.size > 0 && (this.hasRoom || !front.takesCommands)) {
      for (const connection of waiting) now.add(connection);
      waiting.clear();
    }
    for (const connection of ready) now.add(connection);
    ready.clear();
    let commands = 0;
    let bytes = 0;
    for (const connection of now) {
      if (!connection.mayGoOn) continue;
      if (commands >= PASS_COMMANDS_MAX || bytes >= PASS_BYTES_MAX) {
        this.left.add(connection);
        continue;
      }
      const { commands: commandsBefore, madeBytes: bytesBefore } = connection;
      stage.begin(this.hasRoom);
      let waits: boolean;
      try {
        waits = this.dispatcher.run(connection, stage);
      } catch (error) {
        connection.socket.destroy();
        this.events.bug(error);
        continue;
      }
      commands += Math.max(1, connection.commands - commandsBefore);
      bytes += connection.madeBytes - bytesBefore;
      if (stage.count > 0) {
        this.place(connection);
        // Local replies that come before the first command of the machine.
        connection.flush();
        continue;
      }
      if (waits) waiting.add(connection);
      connection.flush();
      if (!waits && connection.mayGoOn && connection.hasInput) ready.add(connection);
    }
    this.send(this.reading);
    this.send(this.writing);
    this.reading = this.writing = undefined;
    if (ready.size > 0 || this.left.size > 0) this.schedule();
  };

  private get hasRoom(): boolean {
    const { front } = this;
    return this.open < front.options.lanes && (front.isConnected || !front.isStarting);
  }

  /** Puts what is staged into an operation. */
  private place(connection: Connection): void {
    const { stage, front } = this;
    const { isWriting } = stage;
    let operation = isWriting ? this.writing : this.reading;
    const bodyBytes = stage.length - COMMANDS_BYTES;
    if (operation !== undefined && operation.length + bodyBytes > front.options.batchBytes) {
      this.send(operation);
      operation = undefined;
    }
    if (operation === undefined) {
      operation = this.begin(isWriting);
      if (isWriting) this.writing = operation;
      else this.reading = operation;
    }
    const { bytes, owners, starts } = operation;
    bytes.set(stage.bytes.subarray(COMMANDS_BYTES, stage.length), operation.length);
    for (const start of stage.starts) {
      owners.push(connection);
      starts.push(start - COMMANDS_BYTES + operation.length);
    }
    operation.length += bodyBytes;
    connection.isOpen = true;
  }

  private begin(isWriting: boolean): Operation {
    const operation = this.spare.pop() ?? new Operation(this.front.options.operationBytes);
    operation.isWriting = isWriting;
    operation.owners.length = operation.starts.length = 0;
    this.encoder.begin(operation.bytes, 0, operation.bytes.length, this.head());
    operation.length = COMMANDS_BYTES;
    return operation;
  }

  private head(): CommandsHead {
    return {
      room: this.front.options.roomBytes,
      now: Math.max(0, Math.floor(this.front.agreedMs())),
      randomHi: this.random.next(),
      randomLo: this.random.next(),
    };
  }

  private send(operation: Operation | undefined): void {
    if (operation === undefined) return;
    this.open++;
    this.call(operation);
  }

  private call(operation: Operation): void {
    const { counters, store } = this.front;
    const { owners, bytes, length } = operation;
    const isExecuted = operation.isWriting || operation.byQuery !== undefined;
    writeU16(bytes, CommandsAt.count, owners.length);
    if (isExecuted) counters.writeOperations++;
    else counters.readOperations++;
    operation.store = store;
    if (store === undefined) {
      this.failed(operation, new JitPaxosError('client-closed', 'the session ended'));
      return;
    }
    const view = bytes.subarray(0, length);
    (isExecuted ? store.execute(view) : store.query(view))
      .then(
        (result) => this.answered(operation, result),
        (error: unknown) => this.failed(operation, error),
      )
      .catch((error: unknown) => {
        // Which of the replies are out is not known here.
        for (const connection of operation.owners) connection.socket.destroy();
        this.events.bug(error);
        if (operation.owners.length > 0) this.release(operation);
      });
  }

  private answered(operation: Operation, bytes: Uint8Array): void {
    let result: CommandsResult;
    try {
      result = decodeCommandsResult(bytes, 0, bytes.length);
    } catch (error) {
      // Another state machine answers. What it did with the bytes is not known.
      this.finish(operation, failure(`ERR the answer is not understood: ${(error as Error).message}`));
      return;
    }
    if (result.status !== 'ok') {
      const isOff = result.status === 'bad-operation' && result.reason === 'opcode';
      if (isOff) this.events.feature(false);
      this.finish(operation, isOff ? FEATURE_OFF : failure(`ERR the operation was refused: ${result.status}`));
      return;
    }
    const { answers, due, revision } = result;
    const { front } = this;
    front.revision = Math.max(front.revision, revision);
    if (!operation.isWriting && operation.byQuery === undefined && due !== undefined && this.front.agreedMs() >= due) {
      // A key that was read looks as if it had ended: the log's time decides.
      this.front.counters.readsAgain++;
      operation.byQuery = answers;
      this.call(operation);
      return;
    }
    this.events.feature(true);
    operation.byQuery = undefined;
    // An operation that only reads leaves the store as it is, so its last revision is that of each of its reads.
    front.answerRevision = operation.isWriting ? -1 : revision;
    this.deliver(operation, answers);
    front.answerRevision = -1;
  }

  private deliver(operation: Operation, answers: readonly Uint8Array[]): void {
    const { owners, starts } = operation;
    const count = Math.min(answers.length, owners.length);
    if (count === 0) {
      this.finish(operation, failure('ERR the answer is empty'));
      return;
    }
    for (let i = 0; i < count; i++) owners[i]!.answered(answers[i]!);
    if (count === owners.length) {
      this.release(operation);
      return;
    }
    const rest = owners[count];
    let executed = 0;
    while (executed < count && owners[count - 1 - executed] === rest) executed++;
    rest!.leftOver(executed);
    const done = new Set(owners.splice(0, count));
    // Of the connection that the rest begins with, some commands may be still open.
    done.delete(rest!);
    const from = starts[count]!;
    operation.bytes.copyWithin(COMMANDS_BYTES, from, operation.length);
    operation.length -= from - COMMANDS_BYTES;
    starts.splice(0, count);
    for (let i = 0; i < starts.length; i++) starts[i]! -= from - COMMANDS_BYTES;
    this.front.counters.continued++;
    this.call(operation);
    rest!.flush();
    for (const connection of done) this.done(connection);
  }

  private failed(operation: Operation, error: unknown): void {
    const { counters, options } = this.front;
    const code = error instanceof JitPaxosError ? error.code : '';
    const isKnown = NOT_EXECUTED.has(code) || IN_DOUBT.has(code) || code === 'read-only';
    if (!isKnown || code === 'client-closed') this.events.broken(operation.store!, error);
    const count = operation.owners.length;
    const { byQuery } = operation;
    operation.byQuery = undefined;
    if (code === 'read-only' && byQuery !== undefined) this.deliver(operation, byQuery);
    else if (code === 'read-only') {
      this.finish(operation, failure("READONLY this server's key may only read, and nothing was executed"));
    } else if (NOT_EXECUTED.has(code)) {
      counters.tryAgain += count;
      this.finish(operation, failure(`TRYAGAIN the cluster did not take it (${code}); nothing was executed`));
    } else if (!operation.isWriting) {
      counters.tryAgain += count;
      this.finish(
        operation,
        failure(`TRYAGAIN no certain answer within ${options.timeoutMs} ms; a read changes nothing`),
      );
    } else {
      counters.inDoubt += count;
      this.finish(
        operation,
        failure(`INDOUBT no certain answer within ${options.timeoutMs} ms: it may be executed, once, or not at all`),
      );
    }
  }

  /** The same reply for all commands that are left. */
  private finish(operation: Operation, reply: string): void {
    for (const connection of operation.owners) connection.answered(reply);
    this.release(operation);
  }

  private release(operation: Operation): void {
    const connections = new Set(operation.owners);
    operation.owners.length = operation.starts.length = 0;
    operation.byQuery = operation.store = undefined;
    this.spare.push(operation);
    this.open--;
    for (const connection of connections) this.done(connection);
    if (this.waiting.size > 0) this.schedule();
  }

  private done(connection: Connection): void {
    connection.ran();
    connection.flush();
    this.wake(connection);
  }
}
