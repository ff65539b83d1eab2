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
import type { FollowedMembers } from './followed-members.js';

export class Diagnosis {
  /** Replicas whose cluster file lists others, as last logged. */
  private saidOtherLists = 0;

  constructor(
    private readonly cluster: Cluster,
    private readonly loop: TurnLoop,
    private readonly sessions: ClientSessions,
    private readonly members: Pick<FollowedMembers, 'hosts'>,
    private readonly logger: Logger,
  ) {}

  /** Datagrams that came. */
  get heard(): number {
    return this.loop.transport.counters[TransportCounter.datagrams_received]!;
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
    const { replicas } = this.cluster;
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
    return new JitPaxosError(
      'cluster-unavailable',
      `no session within ${timeoutMs} ms from ${replicas.map(({ host, port }) => `${host}:${port}`).join(', ')}: ${heard}; check that a majority of ${(replicas.length + 1) / 2} replicas runs with this cluster file and can be reached by UDP, then connect again${none ? `. ${this.explainSilence(-Infinity)}` : ''}`,
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
