/**
 * Why a client is not answered, in words for its user: replicas are silent, are ignored because they list other members,
 * or say that they lost too many logs.
 *
 * The rule: it only tells. Nothing here changes whom the client hears or what it sends.
 */
import { JitPaxosError } from '../errors.js';
import type { Cluster } from '../host/cluster-config.js';
import type { Logger } from '../host/logger.js';
import type { TurnLoop } from '../host/turn-loop.js';
import type { ClientSessions } from '../protocol/client/client-sessions.js';
import { explainSilence } from '../transport/silence.js';
import { TransportCounter } from '../transport/transport.js';
import { ENVELOPE_BYTES_MAX } from '../wire/envelope.js';
import { Request } from '../wire/messages.js';
import type { FollowedMembers } from './followed-members.js';

/** Hosts that run answer a client that waits for them many times in this time. */
const ALL_SILENT_US = 1_000_000;

export class Diagnosis {
  /** Datagrams that had come when it was last looked at, and when more of them were first seen, monotonic µs. */
  private seen = 0;
  private seenUs = -Infinity;
  /** Replicas whose cluster file lists others, as last logged. */
  private saidOtherLists = 0;

  constructor(
    private readonly cluster: Cluster,
    private readonly loop: TurnLoop,
    private readonly sessions: ClientSessions,
    private readonly members: Pick<FollowedMembers, 'hosts' | 'tried'>,
    private readonly logger: Logger,
  ) {}

  /** Datagrams that came. */
  get heard(): number {
    return this.loop.transport.counters[TransportCounter.datagrams_received]!;
  }

  /** Notes whether datagrams have come; called several times a second. */
  look(nowUs: number): void {
    const { heard } = this;
    if (heard === this.seen) return;
    this.seen = heard;
    this.seenUs = nowUs;
  }

  /**
   * That no replica answers any more, why, and whom the client tried: sentences without the last full stop. Undefined if
   * one of them may have answered.
   * @param sinceUs when the operation was given to the client
   * @param heard datagrams that had come by then; −1: not known
   */
  allSilent(sinceUs: number, heard: number, nowUs: number): string | undefined {
    if (this.heard === heard)
      return `no replica has said anything meanwhile: ${this.explainSilence(sinceUs)}. ${this.tried(sinceUs)}`;
    this.look(nowUs);
    // Replicas may say nothing to a client that asks for nothing: silence before the operation tells nothing.
    const silentSinceUs = Math.max(this.seenUs, sinceUs);
    const silentUs = nowUs - silentSinceUs;
    if (silentUs < ALL_SILENT_US) return undefined;
    return `no replica has said anything for ${Math.floor(silentUs / 1e6)} s: ${this.explainSilence(silentSinceUs)}. ${this.tried(sinceUs)}`;
  }

  /** Whom the client tried since then, and what to do if nobody of them is left: sentences without the last full stop. */
  private tried(sinceUs: number): string {
    const { isFile, hosts, others } = this.members.tried(sinceUs);
    const also = others.length === 0 ? '' : `, and asked for newer members at ${others.join(', ')}`;
    return `This client tried ${isFile ? 'the replicas of its cluster file' : 'the members that it was told of'}, ${hosts.join(', ')}${also}. Start a majority of them. If others have replaced them, give the client a new cluster file (jitpaxos member list --write)`;
  }

  /**
   * What an operation of this length needs of the network: sentences without the last full stop; undefined if it fits
   * into a datagram.
   */
  fragments(length: number): string | undefined {
    const { datagramBytes } = this.loop;
    const needed = ENVELOPE_BYTES_MAX + Request.size + length;
    if (needed <= datagramBytes) return undefined;
    return `The operation has ${length} bytes. That is more than a datagram of this cluster takes (datagramBytes ${datagramBytes}), so it is sent in IP fragments, and some paths drop these: \`jitpaxos doctor\` tries it. If they do, split the operation, or let fragments pass`;
  }

  /** Why no replica may have answered since `sinceUs`: a sentence without a full stop. */
  explainSilence(sinceUs: number): string {
    const { hosts } = this.members;
    const silence = this.loop.silence(
      hosts.map(({ slot }) => slot),
      sinceUs,
    );
    const named = (slots: readonly number[]): number[] =>
      hosts.filter(({ slot }) => slots.includes(slot)).map(({ id }) => id);
    return explainSilence({ ...silence, silent: named(silence.silent), refused: named(silence.refused) });
  }

  /**
   * What replicas say about a cluster that has lost more logs than it survives: a half-sentence; undefined if none says
   * so.
   */
  get majorityLost(): string | undefined {
    const { majorityLost } = this.sessions.core;
    if (majorityLost === 0) return undefined;
    const say = this.members.hosts.flatMap(({ id, slot }) => (((majorityLost >>> slot) & 1) === 1 ? [id] : []));
    return `majority-lost: replica${say.length === 1 ? ' ' : 's '}${say.join(', ')} say${say.length === 1 ? 's' : ''} that more logs are lost than the cluster survives, so nothing commits until an operator acts; \`jitpaxos status\` says which, docs/operate/operations.md what can be done`;
  }

  /**
   * Which replicas are ignored because their cluster file lists another number of replicas: a sentence without a full
   * stop; undefined if there are none.
   */
  get listsDiffer(): string | undefined {
    const { lists } = this.sessions.core;
    if (lists.mask === 0) return undefined;
    const { replicas } = this.cluster;
    const said = this.members.hosts.flatMap(({ id, slot }) =>
      ((lists.mask >>> slot) & 1) === 1 ? [`that of replica ${id} ${lists.countOf(slot)}`] : [],
    );
    return `this client's cluster file lists ${replicas.length} replicas, ${said.join(', ')}. Quorums follow from the number, so these replicas are not heard: what too few acknowledge can be lost. Give this client the cluster file that the replicas have, or, where one of them differs from the others, that one`;
  }

  /** No session was registered within this time. */
  unavailable(timeoutMs: number): JitPaxosError {
    const { majorityLost } = this;
    if (majorityLost !== undefined)
      return new JitPaxosError('majority-lost', `no session within ${timeoutMs} ms; ${majorityLost}`);
    const { listsDiffer } = this;
    if (listsDiffer !== undefined)
      return new JitPaxosError(
        'cluster-file-changed',
        `no session within ${timeoutMs} ms, because too few replicas have the same list of replicas as this client, or answer: ${listsDiffer}`,
      );
    const { refused } = this.sessions;
    if (refused > 0) {
      return new JitPaxosError(
        'cluster-unavailable',
        `no session within ${timeoutMs} ms: the replicas answer and refused ${refused} session${refused === 1 ? '' : 's'} one after the other. This happens when this client's clock, theirs and their log's time differ; see \`jitpaxos status\` and \`jitpaxos clock read\`, then connect again`,
      );
    }
    const none = this.heard === 0;
    const heard = none ? 'none of them answered' : 'too few of them answered';
    const { isFile, hosts, others } = this.members.tried(-Infinity);
    const of = isFile ? 'the replicas of the cluster file' : 'the members that a replica named';
    const also = others.length === 0 ? '' : `, or ${others.join(', ')}`;
    return new JitPaxosError(
      'cluster-unavailable',
      `no session within ${timeoutMs} ms from ${of}, ${hosts.join(', ')}${also}: ${heard}; check that a majority of them runs with this "id" in its cluster file and can be reached by UDP, then connect again. If others have replaced them, take a new cluster file (jitpaxos member list --write)${none ? `. ${this.explainSilence(-Infinity)}` : ''}`,
    );
  }

  /** Logs which replicas are ignored, once for each change. */
  sayLists(): void {
    const { mask } = this.sessions.core.lists;
    if (mask === this.saidOtherLists) return;
    this.saidOtherLists = mask;
    if (mask === 0)
      this.logger.info('client.cluster-agrees', {
        found: "no replica's cluster file lists another number of replicas than this client's any more",
      });
    else
      this.logger.warn('client.cluster-differs', {
        found: this.listsDiffer,
        next: 'nothing commits in a view that needs them; use the same cluster file on all hosts',
      });
  }
}
