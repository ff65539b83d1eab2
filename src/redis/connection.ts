/**
 * What the front end knows of one client: its socket, who it is, and its replies in the order of its commands.
 *
 * The rule (S), *order*: a connection has at most one operation open, so its commands are executed in the order in which
 * they came; and replies leave in that order, those of the front end itself among them.
 */
import type { Socket } from 'node:net';
import type { InputMemory } from './input-memory.js';
import { RespReader } from './resp-reader.js';
import type { RespVersion } from './resp-text.js';
import { OwnSubscriptions } from './own-subscriptions.js';
import type { OwnTracking } from './own-tracking.js';
import type { Transaction } from './transaction.js';
import type { User } from './users.js';
import { Watched } from './watched.js';

/** What becomes of the machine's answer; undefined: nothing is sent. */
export type Answer = (reply: Uint8Array | string) => Uint8Array | string | undefined;

const PASS: Answer = (reply) => reply;
const DROP: Answer = () => undefined;

/** Beyond this a connection's commands wait until its client has read more. */
const OUTPUT_BYTES_MAX = 8 << 20;
/** Beyond this nothing more is read from a connection until its commands are taken. */
const INPUT_BYTES_MAX = 1 << 17;
/** Commands for the machine in one run: at first, and at most. Their answers are kept whether the client reads or not. */
const RUN_FIRST = 16;
const RUN_MAX = 256;

export class Connection {
  readonly reader: RespReader;
  readonly address: string;
  readonly localAddress: string;
  readonly openedMs = performance.now();
  version: RespVersion = 2;
  /** Undefined: it has to log in first. */
  user: User | undefined;
  name = '';
  libName = '';
  libVersion = '';
  noEvict = false;
  noTouch = false;
  transaction: Transaction | undefined;
  readonly watched = new Watched();
  readonly subscriptions = new OwnSubscriptions();
  /** CLIENT TRACKING. */
  tracking: OwnTracking | undefined;
  /** An operation has commands of it. */
  isOpen = false;
  /**
   * Commands for the machine that its next run may have. A run whose answers do not fit one result is sent again and
   * again, and others wait for it; so the runs of a client that asks for much become short, and grow again.
   */
  runMost = RUN_FIRST;
  /** A login is being checked: its commands wait. */
  isBlocked = false;
  /** Every command that comes from now on is ignored: the replies so far are sent, then it is closed. */
  isClosing = false;
  isClosed = false;
  /** Its client sends nothing more. */
  isEnded = false;
  /** Its client does not read its replies: commands wait. */
  isStalled = false;
  /** What its client had taken at the last look, and when that grew. */
  takenBytes = 0;
  takenAtMs = performance.now();
  /** Since when it has not taken much of what it is told as a subscriber. */
  behindAtMs = Infinity;
  lastCommandMs = performance.now();
  lastCommand = '';
  commands = 0;
  /** Bytes of replies that the front end made for it, said or not: what it cost. */
  madeBytes = 0;
  /** What it held of the server's memory for replies at the last look. */
  heldBytes = 0;
  /** What it holds of the server's memory for commands. */
  private inputBytes = 0;

  private isMuted = false;
  private mutesNext = false;
  private mutesThis = false;
  private isPaused = false;
  /** Replies that are not on their way yet; from the first function on they wait for the machine. */
  private readonly pending: (string | Answer)[] = [];
  private reportedBytes = 0;
  private output: (string | Uint8Array)[] = [];
  private outputBytes = 0;

  constructor(
    readonly id: number,
    readonly socket: Socket,
    commandBytesMax: number,
    private readonly input: InputMemory,
  ) {
    this.reader = new RespReader(commandBytesMax);
    this.address = addressOf(socket.remoteAddress, socket.remotePort);
    this.localAddress = addressOf(socket.localAddress, socket.localPort);
  }

  /** Its commands can be looked at. */
  get mayGoOn(): boolean {
    return !this.isOpen && !this.isBlocked && !this.isClosing && !this.isClosed && !this.isStalled;
  }

  /** Its client left, as far as can be seen: one that only ended its side may still read. */
  get isGone(): boolean {
    return this.isClosed || this.isEnded;
  }

  /** The next command begins: whether it is answered is decided. */
  begin(name: string): void {
    this.mutesThis = this.isMuted || this.mutesNext;
    this.mutesNext = false;
    this.lastCommand = name;
    this.lastCommandMs = performance.now();
    this.commands++;
  }

  /** CLIENT REPLY. */
  mute(how: 'on' | 'off' | 'skip'): void {
    if (how === 'skip') this.mutesNext = !this.isMuted;
    else this.isMuted = how === 'off';
    this.mutesThis = how !== 'on';
  }

  /** The front end's own reply to the present command. */
  reply(text: string): void {
    if (this.mutesThis) this.madeBytes += text.length;
    else this.say(text);
  }

  /** The machine will answer the present command. */
  expect(answer: Answer = PASS): void {
    this.pending.push(this.mutesThis && answer === PASS ? DROP : this.mutesThis ? mutedAnswer(answer) : answer);
  }

  /** The machine's answer to the earliest command that waits for one. */
  answered(reply: Uint8Array | string): void {
    const answer = this.pending.shift() as Answer;
    const text = answer(reply);
    if (text !== undefined) this.put(text);
    while (typeof this.pending[0] === 'string') this.put(this.pending.shift() as string);
  }

  /** An operation ended before all of its run was executed. @param executed commands of the run that were */
  leftOver(executed: number): void {
    this.runMost = Math.max(1, Math.min(this.runMost, executed));
  }

  /** Its run was executed. */
  ran(): void {
    this.isOpen = false;
    this.runMost = Math.min(RUN_MAX, 2 * this.runMost);
  }

  /** Says something whatever CLIENT REPLY says: errors before the connection is closed, pushes. */
  say(text: string): void {
    this.madeBytes += text.length;
    if (this.pending.length > 0) this.pending.push(text);
    else this.put(text);
  }

  /** Says something that no command asked for, at once: between replies, wherever they stand. */
  tell(text: string): void {
    this.put(text);
  }

  /** Bytes that were said and are not on their way. */
  get unflushed(): number {
    return this.outputBytes;
  }

  /** Sends what is due. */
  flush(): void {
    if (this.outputBytes > 0 && !this.isClosed) {
      const bytes = Buffer.allocUnsafe(this.outputBytes);
      let at = 0;
      for (const part of this.output) {
        if (typeof part === 'string') at += bytes.write(part, at, 'latin1');
        else {
          bytes.set(part, at);
          at += part.length;
        }
      }
      this.output = [];
      this.outputBytes = 0;
      if (!this.socket.write(bytes) && this.socket.writableLength > OUTPUT_BYTES_MAX) this.isStalled = true;
    }
    this.breathe();
    if (this.pending.length > 0 || this.isOpen || this.isBlocked || this.isClosed) return;
    if (this.isClosing || (this.isEnded && !this.isStalled && !this.hasInput)) {
      this.isClosing = true;
      this.socket.end();
    }
  }

  /** Its replies were taken: true if its commands had waited for that. */
  drained(): boolean {
    const had = this.isStalled;
    this.isStalled = false;
    return had;
  }

  /** Bytes arrived. */
  push(chunk: Uint8Array): void {
    if (this.isClosing || this.isClosed) return;
    this.reader.push(chunk);
    this.isHungry = true;
  }

  /** Bytes arrived since its commands were looked at and found to be incomplete. */
  isHungry = false;

  get hasInput(): boolean {
    return this.isHungry && this.reader.waiting > 0;
  }

  /** Bytes of replies that its client has not taken. */
  get unsent(): number {
    return this.socket.writableLength;
  }

  /** Bytes of replies since the last call. */
  unreported(): number {
    const since = this.socket.bytesWritten - this.reportedBytes;
    this.reportedBytes += since;
    return since;
  }

  /** RESET: as a new connection. */
  forgetSession(): void {
    this.transaction = undefined;
    this.watched.clear();
    this.isMuted = this.mutesNext = this.mutesThis = false;
    this.version = 2;
    this.name = '';
    this.noEvict = this.noTouch = false;
  }

  /** Its socket is closed. */
  closed(): void {
    this.isClosed = true;
    this.input.change(-this.inputBytes);
    this.inputBytes = 0;
  }

  /** Stops reading while commands wait, and goes on afterwards. */
  breathe(): void {
    if (this.isClosed) return;
    const { held, waiting } = this.reader;
    this.input.change(held - this.inputBytes);
    this.inputBytes = held;
    const isFull = this.isStalled || (this.hasInput && (waiting > INPUT_BYTES_MAX || this.input.isFull));
    if (isFull === this.isPaused) return;
    this.isPaused = isFull;
    if (isFull) this.socket.pause();
    else this.socket.resume();
  }

  private put(part: string | Uint8Array): void {
    this.output.push(part);
    this.outputBytes += part.length;
  }
}

function mutedAnswer(answer: Answer): Answer {
  return (reply) => {
    answer(reply);
    return undefined;
  };
}

function addressOf(host: string | undefined, port: number | undefined): string {
  if (host === undefined) return '?:0';
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;
}
