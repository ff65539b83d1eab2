/**
 * One end of a control channel, after the handshake: messages and bytes in sealed frames over a TCP connection.
 *
 * Either end says twice a second that it is there. An end that hears nothing for SILENCE_MS takes the other for gone,
 * so a host that is lost without a word, and a process that is stopped, are noticed in a few seconds.
 */
import type { Socket } from 'node:net';
import { FrameReader, FrameSealer, type FrameFault } from './frames.js';

const ALIVE_MS = 500;
export const SILENCE_MS = 5_000;
/** Bytes that wait for the other end. A sender that asks `backlog` stays far below; nobody may go beyond it. */
const BACKLOG_BYTES_MAX = 1 << 20;

/** The first byte of a frame's body. */
const Kind = { alive: 0, message: 1, bytes: 2 } as const;

export interface ChannelEvents {
  /** A message came: any JSON. It is authentic, and not checked. */
  message(value: unknown): void;
  bytes(piece: Buffer): void;
  /** Called once. `why` is a clause, such as "it closed the connection". */
  closed(why: string): void;
}

export interface ChannelOptions {
  readonly socket: Socket;
  readonly sealing: Uint8Array;
  readonly opening: Uint8Array;
  /** Longest frame that is taken at first. */
  readonly limit?: number;
  /** For tests. Default SILENCE_MS. */
  readonly silenceMs?: number;
}

export class Channel {
  private readonly socket: Socket;
  private readonly sealer: FrameSealer;
  private readonly reader: FrameReader;
  private readonly silenceMs: number;
  private readonly timer: NodeJS.Timeout;
  private readonly everyMs: number;
  private heardAtMs = performance.now();
  private tickedAtMs = this.heardAtMs;
  private isClosed = false;

  constructor(
    { socket, sealing, opening, limit, silenceMs = SILENCE_MS }: ChannelOptions,
    public events: ChannelEvents,
  ) {
    this.socket = socket;
    this.silenceMs = silenceMs;
    this.sealer = new FrameSealer(sealing);
    this.reader = new FrameReader(opening, limit);
    socket.setNoDelay(true);
    socket.on('data', (chunk: Buffer) => this.read(chunk));
    socket.on('error', (error: NodeJS.ErrnoException) =>
      this.lose(`the connection failed (${error.code ?? error.message})`),
    );
    socket.on('close', () => this.lose('the connection was closed'));
    this.everyMs = Math.min(ALIVE_MS, silenceMs / 4);
    this.timer = setInterval(() => this.tick(), this.everyMs);
  }

  /** Why no frame can be read any more, if that is so. */
  get fault(): FrameFault | undefined {
    return this.reader.fault;
  }

  /** Bytes that the other end has not taken yet. */
  get backlog(): number {
    return this.socket.writableLength;
  }

  /** The longest frame that is taken from now on. */
  set limit(bytes: number) {
    this.reader.limit = bytes;
  }

  send(message: object): void {
    this.write(Kind.message, Buffer.from(JSON.stringify(message)));
  }

  sendBytes(piece: Uint8Array): void {
    this.write(Kind.bytes, piece);
  }

  /** Ends the connection after what was sent. `closed` is not called. */
  end(): void {
    if (this.isClosed) return;
    this.finish();
    this.socket.end();
    // The other end may never read: a bound.
    const timer = setTimeout(() => this.socket.destroy(), this.silenceMs).unref();
    this.socket.once('close', () => clearTimeout(timer));
  }

  /** Reads what came before the channel was there. */
  read(chunk: Buffer): void {
    if (this.isClosed) return;
    this.reader.push(chunk, (body) => this.take(body));
    if (this.reader.fault !== undefined)
      this.lose(
        this.reader.fault === 'forged'
          ? 'it sent a frame that is not authentic: its secret is another one, or somebody is in between'
          : `it sent a frame that is ${this.reader.fault.replace('-', ' ')}`,
      );
  }

  private take(body: Buffer): boolean {
    this.heardAtMs = performance.now();
    const content = body.subarray(1);
    switch (body[0]) {
      case Kind.alive:
        break;
      case Kind.message: {
        let value: unknown;
        try {
          value = JSON.parse(content.toString());
        } catch {
          this.lose('it sent a message that is not JSON');
          return false;
        }
        this.events.message(value);
        break;
      }
      case Kind.bytes:
        this.events.bytes(content);
        break;
      default:
        this.lose('it sent a frame of an unknown kind');
    }
    return !this.isClosed;
  }

  private write(kind: number, content: Uint8Array): void {
    if (this.isClosed) return;
    if (this.backlog > BACKLOG_BYTES_MAX) return this.lose('it does not take what it is sent');
    this.socket.write(this.sealer.seal(Buffer.concat([Buffer.of(kind), content])));
  }

  private tick(): void {
    const now = performance.now();
    // What came while this process itself was kept from running has not been read yet.
    this.heardAtMs += Math.max(0, now - this.tickedAtMs - 2 * this.everyMs);
    this.tickedAtMs = now;
    if (now - this.heardAtMs > this.silenceMs)
      return this.lose(`nothing was heard of it for ${this.silenceMs / 1000} s`);
    if (this.backlog === 0) this.write(Kind.alive, Buffer.alloc(0));
  }

  /** Ends the connection at once, for a reason. */
  lose(why: string): void {
    if (this.isClosed) return;
    this.finish();
    this.socket.destroy();
    this.events.closed(why);
  }

  private finish(): void {
    this.isClosed = true;
    clearInterval(this.timer);
    this.socket.on('error', () => undefined);
  }
}
