/**
 * The coordinator's end of the control channel to one agent. It asks one question at a time, and keeps the last report of
 * the agent's load. An agent that is lost is lost for good: `lost` says why, and every question fails.
 *
 * What an agent says is not trusted: messages are checked, texts are cut, and its log has a bound.
 */
import { closeSync, openSync, writeSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { hostMonotonicNs } from '../../clock/monotonic.js';
import { CliError } from '../../console/exit.js';
import { deferred, type Deferred } from '../load/client-processes.js';
import { wallClockMs } from '../load/wall-seconds.js';
import { Channel } from './channel.js';
import type { ClockOffset } from './clock-agreement.js';
import {
  PIECE_BYTES,
  readFromAgent,
  type AgentFacts,
  type AgentProgress,
  type AgentResult,
  type FromAgent,
  type ToAgent,
} from './control-messages.js';
import { ANSWER_BYTES, helloOf, readAnswer, type ChannelKeys, type ControlKeys, type Verdict } from './handshake.js';
import type { LoadOrder } from './load-order.js';

const CONNECT_MS = 10_000;
const ANSWER_MS = 10_000;
/** Client processes connect within two minutes, or fail (client-processes.ts). */
const PREPARE_MS = 150_000;
/** Exchanges of times; the quickest counts. */
const TIME_EXCHANGES = 16;
const NS_PER_MS = 1e6;

export interface AgentAddress {
  /** As it was given. */
  readonly name: string;
  readonly host: string;
  readonly port: number;
}

export interface AgentLinkOptions extends AgentAddress {
  /** The cluster file's id. */
  readonly cluster: string;
  readonly keys: ControlKeys;
  /** Names this coordinator to people at the agent. */
  readonly by: string;
  readonly version: string;
}

/** A message that answers. */
type Answer = FromAgent | Buffer;

export class AgentLink {
  facts!: AgentFacts;
  /** The agent's wall clock minus that of this host. */
  offset: ClockOffset | undefined;
  progress: AgentProgress | undefined;
  /** Why the agent is lost, as a clause; undefined: it is there. */
  lost: string | undefined;
  private readonly done: Deferred<AgentResult> = deferred();
  private waiting: Deferred<Answer> | undefined;
  private running = false;

  private constructor(
    readonly name: string,
    private readonly channel: Channel,
  ) {
    channel.events = {
      message: (value) => this.onMessage(value),
      bytes: (piece) => this.answer(piece),
      closed: (why) => this.fail(why),
    };
  }

  /**
   * Connects, and claims the agent. Throws CliError `agent-unreachable`, or `agent-refused`: the keys, the cluster or the
   * version differ, or another coordinator has it.
   */
  static async open(options: AgentLinkOptions): Promise<AgentLink> {
    const { name, cluster, keys, by, version } = options;
    const hello = helloOf(cluster, keys.own);
    const socket = await connected(options);
    let derived: ChannelKeys;
    let rest: Buffer;
    try {
      socket.write(hello);
      const [answer, more] = await received(socket, ANSWER_BYTES, options);
      rest = more;
      const read = readAnswer(hello, answer, keys);
      if (read === undefined) throw refused(name, 'what answers there is no agent', 'check the address');
      if (read.keys === undefined) throw refusedFor(read.verdict, name, keys.own);
      derived = read.keys;
    } catch (error) {
      socket.destroy();
      throw error;
    }
    const channel = new Channel(
      { socket, sealing: derived.toAgent, opening: derived.toCoordinator },
      { message: () => undefined, bytes: () => undefined, closed: () => undefined },
    );
    const link = new AgentLink(name, channel);
    if (rest.length > 0) channel.read(rest);
    try {
      const answer = await link.ask({ type: 'claim', by, version }, ANSWER_MS);
      if (answer.type === 'held')
        throw refused(
          name,
          `${answer.by} has had it for ${answer.seconds.toFixed(0)} s`,
          'wait until that load has ended, or use another agent',
        );
      if (answer.type !== 'welcome') throw refused(name, 'it did not answer the claim', 'use one version everywhere');
      link.facts = answer;
      if (answer.version !== version)
        throw refused(
          name,
          `it is version ${answer.version}, and this is ${version}`,
          'use one version everywhere: figures of two are not of one load',
        );
      return link;
    } catch (error) {
      link.end();
      // An agent that takes the secret for another one says nothing, and closes.
      if (link.lost !== undefined && (error as CliError).code === 'agent-lost')
        throw refused(
          name,
          `it closed the connection after the handshake (${link.lost}); key ${keys.own} may have another secret there`,
          'give both the same key file',
        );
      throw error;
    }
  }

  /** Compares the wall clocks. Throws CliError `agent-lost`. */
  async measureOffset(): Promise<ClockOffset> {
    let best: ClockOffset | undefined;
    for (let i = 0; i < TIME_EXCHANGES; i++) {
      const before = hostMonotonicNs();
      const sentMs = wallClockMs();
      const answer = await this.ask({ type: 'time' }, ANSWER_MS);
      const roundTripNs = hostMonotonicNs() - before;
      if (answer.type !== 'time') throw this.confused();
      const offsetNs = (answer.wallMs - sentMs) * NS_PER_MS - roundTripNs / 2;
      if (best === undefined || roundTripNs / 2 < best.uncertaintyNs)
        best = { offsetNs, uncertaintyNs: roundTripNs / 2 };
    }
    return (this.offset = best!);
  }

  /** Resolves when the agent's clients are connected. Throws CliError `agent-refused` or `agent-lost`. */
  async prepare(order: LoadOrder): Promise<void> {
    const answer = await this.ask({ type: 'prepare', order }, PREPARE_MS);
    if (answer.type !== 'prepared') throw this.confused();
  }

  /** @param atMs by the agent's own wall clock, ms since the epoch */
  async start(atMs: number): Promise<void> {
    const answer = await this.ask({ type: 'start', atMs }, ANSWER_MS);
    if (answer.type !== 'starting') throw this.confused();
    this.running = true;
  }

  /** Ends the load in order. */
  stop(): void {
    this.channel.send({ type: 'stop' } satisfies ToAgent);
  }

  /** Resolves when the load has ended. Throws CliError `agent-lost`, or `agent-refused` if it ended without a result. */
  get result(): Promise<AgentResult> {
    return this.done.promise;
  }

  /** Writes the log of the load into a new file, in pieces. Throws CliError `agent-lost`, and the system's errors. */
  async fetchLog(path: string, bytes: number): Promise<void> {
    const fd = openSync(path, 'wx', 0o600);
    try {
      for (let at = 0; at < bytes; ) {
        const piece = await this.request({ type: 'piece', at }, ANSWER_MS);
        if (!Buffer.isBuffer(piece) || piece.length === 0 || piece.length > Math.min(PIECE_BYTES, bytes - at))
          throw this.confused();
        writeSync(fd, piece);
        at += piece.length;
      }
    } finally {
      closeSync(fd);
    }
  }

  /** Lets the agent go. */
  end(): void {
    this.channel.end();
    this.done.reject(gone(this.name, this.lost ?? 'it was let go'));
  }

  /** Gives the agent up for a reason. */
  giveUp(why: string): void {
    this.channel.lose(why);
  }

  /** Throws CliError `agent-refused` if the agent says no. */
  private async ask(question: ToAgent, timeoutMs: number): Promise<FromAgent> {
    const answer = await this.request(question, timeoutMs);
    if (Buffer.isBuffer(answer)) throw this.confused();
    if (answer.type === 'refused') throw refused(this.name, `${answer.code}: ${answer.message}`);
    return answer;
  }

  private async request(question: ToAgent, timeoutMs: number): Promise<Answer> {
    if (this.lost !== undefined) throw gone(this.name, this.lost);
    const waiting = deferred<Answer>();
    this.waiting = waiting;
    const timer = setTimeout(
      () => this.giveUp(`it did not answer ${question.type} within ${timeoutMs / 1000} s`),
      timeoutMs,
    );
    try {
      this.channel.send(question);
      return await waiting.promise;
    } finally {
      clearTimeout(timer);
      this.waiting = undefined;
    }
  }

  private onMessage(value: unknown): void {
    let message: FromAgent;
    try {
      message = readFromAgent(value);
    } catch (error) {
      return this.giveUp((error as Error).message);
    }
    if (message.type === 'progress') this.progress = message;
    else if (message.type === 'done') this.done.resolve(message);
    else if (message.type === 'refused' && this.running && this.waiting === undefined)
      this.done.reject(refused(this.name, `${message.code}: ${message.message}`));
    else this.answer(message);
  }

  private answer(answer: Answer): void {
    if (this.waiting === undefined) return this.giveUp('it sent an answer to nothing');
    this.waiting.resolve(answer);
  }

  private fail(why: string): void {
    this.lost = why;
    const error = gone(this.name, why);
    this.waiting?.reject(error);
    this.done.reject(error);
  }

  private confused(): CliError {
    const why = 'it sent another answer than the one to the question';
    this.giveUp(why);
    return gone(this.name, why);
  }
}

function connected({ name, host, port }: AgentAddress): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host, port });
    const fail = (why: string): void => {
      clearTimeout(timer);
      socket.destroy();
      reject(unreachable(name, why));
    };
    const timer = setTimeout(() => fail(`no connection within ${CONNECT_MS / 1000} s`), CONNECT_MS);
    socket.once('error', (error: NodeJS.ErrnoException) => fail(error.code ?? error.message));
    socket.once('connect', () => {
      clearTimeout(timer);
      socket.removeAllListeners('error');
      resolve(socket);
    });
  });
}

/** The first `bytes` bytes, and what came with them. */
function received(socket: Socket, bytes: number, { name }: AgentAddress): Promise<[Buffer, Buffer]> {
  return new Promise((resolve, reject) => {
    let content = Buffer.alloc(0);
    const settle = (): void => {
      clearTimeout(timer);
      for (const event of ['data', 'error', 'close']) socket.removeAllListeners(event);
    };
    const fail = (why: string): void => {
      settle();
      reject(unreachable(name, why));
    };
    const timer = setTimeout(() => fail(`no answer within ${CONNECT_MS / 1000} s`), CONNECT_MS);
    socket.on('data', (chunk: Buffer) => {
      content = Buffer.concat([content, chunk]);
      if (content.length < bytes) return;
      settle();
      resolve([content.subarray(0, bytes), content.subarray(bytes)]);
    });
    socket.on('error', (error: NodeJS.ErrnoException) => fail(error.code ?? error.message));
    socket.on('close', () => fail('it closed the connection without an answer'));
  });
}

function refusedFor(verdict: Verdict, name: string, keyId: number): CliError {
  if (verdict === 'version')
    return refused(name, 'its control channel is of another version', 'use one version everywhere');
  if (verdict === 'cluster')
    return refused(name, 'it is an agent for another cluster', 'give both the cluster file of one cluster');
  return refused(
    name,
    keyId === 0 ? 'it has keys, and this cluster file says that there are none' : `it has no key ${keyId}`,
    'give both the same key file',
  );
}

function unreachable(name: string, why: string): CliError {
  return new CliError(
    'agent-unreachable',
    `agent ${name} cannot be reached: ${why}; start \`jitpaxos bench agent\` there, and check the address and the firewall`,
  );
}

function refused(name: string, why: string, advice?: string): CliError {
  return new CliError('agent-refused', `agent ${name}: ${why}${advice === undefined ? '' : `; ${advice}`}`);
}

function gone(name: string, why: string): CliError {
  return new CliError('agent-lost', `agent ${name} was lost: ${why}; look at its host and its output`);
}
