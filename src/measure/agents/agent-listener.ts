/**
 * Where an agent waits for coordinators. Anyone who reaches the port can connect; the rule: without a key of the agent's
 * file nobody does more than be counted. A stranger costs one of PENDING_MAX places for at most HANDSHAKE_MS, a few
 * hundred bytes, and one derivation of keys. When all places are taken the oldest is cut, so strangers that say nothing
 * keep nobody out.
 *
 * The first sealed frame has to be authentic, and a claim. The frames that follow are the coordinator's orders.
 */
import { createServer, type Server, type Socket } from 'node:net';
import { Channel, type ChannelEvents } from './channel.js';
import { readToAgent, type ToAgent } from './control-messages.js';
import { FRAME_BYTES_MAX } from './frames.js';
import { answerTo, HELLO_BYTES, type ControlKeys } from './handshake.js';

const PENDING_MAX = 32;
const HANDSHAKE_MS = 10_000;
/** Longest first frame: a claim. */
const CLAIM_BYTES_MAX = 1_024;

/** Why a connection came to nothing. `slow`: it said too little in time; `closed`: it went before it had proven anything. */
const REFUSALS = ['hello', 'version', 'cluster', 'key', 'forged', 'claim', 'crowded', 'slow', 'closed'] as const;
export type Refusal = (typeof REFUSALS)[number];

/** A coordinator that has a key. */
export interface Claim {
  readonly channel: Channel;
  readonly message: Extract<ToAgent, { type: 'claim' }>;
  readonly keyId: number;
  readonly address: string;
}

export interface AgentListenerOptions {
  readonly host: string;
  readonly port: number;
  /** The cluster file's id. */
  readonly cluster: string;
  readonly keys: ControlKeys;
  /** Takes over the events of the channel, or ends it. */
  readonly onClaim: (claim: Claim) => void;
  /** A connection was refused: `refused` has it already. */
  readonly onRefused?: (refusal: Refusal) => void;
  readonly handshakeMs?: number;
}

export class AgentListener {
  /** Connections that came to nothing, by reason. */
  readonly refused: Record<Refusal, number>;
  private readonly pending = new Map<Socket, (refusal: Refusal) => void>();

  private constructor(
    private readonly server: Server,
    private readonly options: AgentListenerOptions,
  ) {
    this.refused = Object.fromEntries(REFUSALS.map((name) => [name, 0])) as Record<Refusal, number>;
    server.on('connection', (socket: Socket) => this.greet(socket));
  }

  /** Throws the system's errors of listening. */
  static open(options: AgentListenerOptions): Promise<AgentListener> {
    const server = createServer();
    const listener = new AgentListener(server, options);
    return new Promise((resolve, reject) => {
      server.once('error', reject);
      server.listen({ host: options.host, port: options.port }, () => {
        server.removeListener('error', reject);
        server.on('error', () => undefined); // out of descriptors: the next connection is tried again
        resolve(listener);
      });
    });
  }

  get port(): number {
    const address = this.server.address();
    return typeof address === 'object' && address !== null ? address.port : 0;
  }

  close(): void {
    this.server.close();
    for (const socket of this.pending.keys()) socket.destroy();
  }

  private greet(socket: Socket): void {
    const timer = setTimeout(() => refuse('slow'), this.options.handshakeMs ?? HANDSHAKE_MS);
    const settle = (): boolean => {
      clearTimeout(timer);
      return this.pending.delete(socket);
    };
    const refuse = (refusal: Refusal, answer?: Buffer): void => {
      if (!settle()) return;
      this.refused[refusal]++;
      socket.removeAllListeners('data');
      if (answer === undefined) socket.destroy();
      else socket.end(answer, () => socket.destroy());
      this.options.onRefused?.(refusal);
    };
    if (this.pending.size >= PENDING_MAX) this.pending.values().next().value!('crowded');
    this.pending.set(socket, refuse);
    socket.on('error', () => refuse('closed'));
    socket.on('close', () => refuse('closed'));
    const hello = Buffer.alloc(HELLO_BYTES);
    let filled = 0;
    const onData = (chunk: Buffer): void => {
      const taken = Math.min(chunk.length, HELLO_BYTES - filled);
      hello.set(chunk.subarray(0, taken), filled);
      filled += taken;
      if (filled < HELLO_BYTES) return;
      socket.removeListener('data', onData);
      this.answer(socket, hello, chunk.subarray(taken), settle, refuse);
    };
    socket.on('data', onData);
  }

  private answer(
    socket: Socket,
    hello: Buffer,
    rest: Buffer,
    settle: () => boolean,
    refuse: (refusal: Refusal, answer?: Buffer) => void,
  ): void {
    const { cluster, keys, onClaim } = this.options;
    const answered = answerTo(hello, cluster, keys);
    if (answered === undefined) return refuse('hello');
    const { answer, verdict, keyId } = answered;
    if (answered.keys === undefined) return refuse(verdict === 'go-on' ? 'key' : verdict, answer);
    socket.write(answer);
    const events: ChannelEvents = {
      message: (value) => {
        let message: ToAgent;
        try {
          message = readToAgent(value);
        } catch {
          return refuse('claim');
        }
        if (message.type !== 'claim') return refuse('claim');
        if (!settle()) return;
        channel.limit = FRAME_BYTES_MAX;
        onClaim({ channel, message, keyId, address: socket.remoteAddress ?? '' });
      },
      bytes: () => refuse('claim'),
      closed: () => refuse(channel.fault === undefined ? 'closed' : 'forged'),
    };
    const channel = new Channel(
      { socket, sealing: answered.keys.toCoordinator, opening: answered.keys.toAgent, limit: CLAIM_BYTES_MAX },
      events,
    );
    if (rest.length > 0) channel.read(rest);
  }
}
