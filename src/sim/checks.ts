/**
 * The invariants of the model (JITPaxos.tla), checked on the states and messages of a running simulation.
 *
 * The checker is an omniscient observer. It sees every message that a replica sends and, after each call, every
 * replica's state. From the messages it computes what is *chosen*, as the model does: a prefix of the log that the
 * primary of a view has announced, vouched for by every other member in that view. Everything is incremental: an event
 * costs only as much as it changed.
 */
import { Chunk, Order, Reply, ReplicaStatus, REPLICA_STATUS_NAMES, Sync, SyncAck, typeOf } from '../wire/messages.js';
import { readI32, readIndex, readU16, toHex } from '../wire/u64.js';
import { ORDER_RECORD_BYTES } from '../protocol/log/log.js';
import { REGISTER_LANE } from '../protocol/log/sessions.js';
import { ChainTree, ROOT } from './chain-tree.js';
import type { LogView, ReplicaStateView } from './cores.js';
import type { Configuration } from '../protocol/configuration.js';
import { Epochs } from './epochs.js';
import type { MachineProbe } from './machine-probe.js';
import { Violation } from './violation.js';

/** What is known about one view. */
interface ViewRecord {
  readonly view: number;
  readonly primary: number;
  readonly memberMask: number;
  /** Node at each index of the log that the primary has announced; `length` −1 before it announced anything. */
  readonly path: number[];
  length: number;
  /** Up to which index each member vouches for the primary's log. */
  readonly vouched: number[];
  /** Acknowledged prefixes beyond what the primary has announced so far. */
  pending: Acknowledgement[];
  /** Length of the chosen prefix. */
  chosen: number;
}

/** What is known about one replica's log. */
interface Mirror {
  readonly path: number[];
  last: number;
  /** Executed entries up to here agree with the others'. */
  verified: number;
  executed: number;
  restores: number;
}

interface Acknowledgement {
  readonly replica: number;
  readonly index: number;
  readonly chainHi: number;
  readonly chainLo: number;
}

interface Statement {
  readonly kind: 'reply' | 'primary' | 'sync-ack';
  readonly replica: number;
  readonly view: number;
  readonly index: number;
  readonly chainHi: number;
  readonly chainLo: number;
}

const EXECUTED_NOTHING = 0x1_0000_0000;

export class Checks {
  readonly tree = new ChainTree();
  /** Node at each index of the chosen log. */
  readonly chosen: number[] = [ROOT];
  readonly epochs: Epochs;
  /** The view that each host last was in, or had promised; by its id, because another host may get its machine. */
  private readonly views = new Map<number, number>();
  /** The host that each machine is. */
  private readonly hostIds: number[];
  /** What each replica committed last as a quorum of its own. */
  private readonly alone: number[];
  private readonly records = new Map<number, ViewRecord>();
  /** Records in ascending order of views. */
  private readonly ordered: ViewRecord[] = [];
  private readonly mirrors: Mirror[];
  private readonly states: (ReplicaStateView | undefined)[];
  private readonly chosenRequests: (number | undefined)[] = [];
  private readonly digests: (number | undefined)[] = [];
  private statements: Statement[] = [];

  /** @param executed hears of each entry of the chosen log, once: this replica was the first that is seen to have executed it */
  constructor(
    readonly replicas: number,
    private readonly executed?: (replica: number, index: number) => void,
    /** Those that the cluster begins with. */
    first: number = replicas,
  ) {
    this.epochs = new Epochs(first);
    this.hostIds = Array.from({ length: replicas }, (_, replica) => replica);
    this.alone = new Array<number>(replicas).fill(-1);
    this.mirrors = Array.from({ length: replicas }, () => ({
      path: [ROOT],
      last: 0,
      verified: 0,
      executed: 0,
      restores: 0,
    }));
    this.states = new Array<ReplicaStateView | undefined>(replicas).fill(undefined);
  }

  get chosenLength(): number {
    return this.chosen.length - 1;
  }

  get viewsStarted(): number {
    return this.ordered.filter((record) => record.length >= 0).length;
  }

  /**
   * A process of this replica begins; `state` is read after each of its calls.
   * @param hostId what it is among the members
   */
  started(replica: number, state: ReplicaStateView, hostId = replica): void {
    this.hostIds[replica] = hostId;
    this.states[replica] = state;
    this.mirrors[replica] = { path: [ROOT], last: 0, verified: 0, executed: 0, restores: 0 };
  }

  /** Its process is gone; its log does not count until it is started again. */
  stopped(replica: number): void {
    this.states[replica] = undefined;
  }

  /** In the middle of a call: a quorum of one may append an entry and cut it behind a snapshot in one and the same. */
  look(replica: number): void {
    const state = this.states[replica];
    if (state !== undefined) this.follow(replica, this.mirrors[replica]!, state.log);
  }

  /** A replica sends a message. Judged in `after`, when its log is known. */
  sent(replica: number, bytes: Uint8Array, offset: number): void {
    switch (typeOf(bytes, offset)) {
      case Reply.type:
        this.state(replica, 'reply', bytes, offset, Reply.at.view, Reply.at.index, Reply.at.chain);
        break;
      case Sync.type:
        this.state(replica, 'primary', bytes, offset, Sync.at.view, Sync.at.lastIndex, Sync.at.lastChain);
        break;
      case SyncAck.type:
        this.state(replica, 'sync-ack', bytes, offset, SyncAck.at.view, SyncAck.at.matchedIndex, -1);
        break;
      case Order.type: {
        // The chains in an Order are the primary's log; the last one stands for all of it.
        const length = readU16(bytes, offset + Order.at.orders);
        const last = offset + Order.size + length - 8;
        this.state(
          replica,
          'primary',
          bytes,
          offset,
          Order.at.view,
          Order.at.baseIndex,
          last - offset,
          length / ORDER_RECORD_BYTES,
        );
        break;
      }
      case Chunk.type: {
        // The primary's answer to a repair reveals its log as a Sync does; a voter's, from an older view, does not.
        const view = readI32(bytes, offset + Chunk.at.view);
        if (readI32(bytes, offset + Chunk.at.logView) === view && this.epochs.primary(view) === replica) {
          this.state(replica, 'primary', bytes, offset, Chunk.at.view, Chunk.at.lastIndex, Chunk.at.lastChain);
        }
        break;
      }
    }
  }

  /** Call it after each call of a core: records what changed and checks it. */
  after(replica: number, probe: MachineProbe): void {
    const state = this.states[replica];
    if (state === undefined) return;
    // A replica that does not know yet what it had promised says nothing, and begins above that.
    if (state.starting !== true) this.views.set(this.hostIds[replica]!, state.view);
    const mirror = this.mirrors[replica]!;
    this.follow(replica, mirror, state.log);
    if (this.statements.length > 0) {
      const statements = this.statements;
      this.statements = [];
      for (const statement of statements) this.judge(statement);
    }
    if (state.status === ReplicaStatus.normal && this.epochs.primary(state.view) === replica)
      this.checkEpoch(replica, state);
    this.checkStable(replica);
    this.checkCommitted(replica, mirror, state);
    this.checkExecuted(replica, mirror, state, probe);
  }

  /** A client was told that this request is committed. */
  clientCommitted(sessionHi: number, sessionLo: number, lane: number, request: number): void {
    const id = this.tree.requestOf(sessionHi, sessionLo, lane, request);
    if (this.chosenRequests[id] === undefined)
      throw new Violation(
        'client-result',
        `request ${this.tree.requestName(id)} was reported as committed and is not in the chosen log of ${this.chosenLength} entries`,
      );
  }

  /** Where this request stands in the chosen log; undefined: nowhere so far. */
  indexOf(sessionHi: number, sessionLo: number, lane: number, request: number): number | undefined {
    return this.chosenRequests[this.tree.requestOf(sessionHi, sessionLo, lane, request)];
  }

  /** One line about a replica, for reports. */
  describe(replica: number): string {
    const state = this.states[replica];
    if (state === undefined) return `replica ${replica}: down`;
    const { log } = state;
    const role = state.status === ReplicaStatus.normal ? this.role(replica, state.view) : '-';
    return `replica ${replica}: ${REPLICA_STATUS_NAMES[state.status]} ${role} view ${state.view} logView ${state.logView} log ${log.baseIndex}…${log.lastIndex} chain ${toHex(log.chainHi(log.lastIndex), log.chainLo(log.lastIndex))} committed ${state.committed} executed ${state.executed}`;
  }

  /** A view of no epoch may be the very violation that is told of. */
  private role(replica: number, view: number): string {
    if (!this.epochs.has(view)) return 'in a view of no epoch,';
    if (this.epochs.primary(view) === replica) return 'primary';
    return this.epochs.isMember(view, replica) ? 'member' : 'spare';
  }

  private state(
    replica: number,
    kind: Statement['kind'],
    bytes: Uint8Array,
    offset: number,
    atView: number,
    atIndex: number,
    atChain: number,
    behind = 0,
  ): void {
    if (atChain >= 0 && this.tree.find(readI32(bytes, offset + atChain), readI32(bytes, offset + atChain + 4)) < 0) {
      // The log may differ when the call ends: a held-back entry is appended, acknowledged, and then cut by the same
      // message that woke it. So the log is read now.
      const state = this.states[replica];
      if (state !== undefined) this.follow(replica, this.mirrors[replica]!, state.log);
    }
    this.statements.push({
      kind: kind === 'reply' && this.epochs.primary(readI32(bytes, offset + atView)) === replica ? 'primary' : kind,
      replica,
      view: readI32(bytes, offset + atView),
      index: readIndex(bytes, offset + atIndex) + behind,
      chainHi: atChain < 0 ? 0 : readI32(bytes, offset + atChain),
      chainLo: atChain < 0 ? 0 : readI32(bytes, offset + atChain + 4),
    });
  }

  /** Makes the mirror equal to the log. */
  private follow(replica: number, mirror: Mirror, log: LogView): void {
    const { tree } = this;
    const { path } = mirror;
    const { lastIndex, baseIndex } = log;
    let common = Math.min(mirror.last, lastIndex);
    while (common >= baseIndex && !this.isNode(path[common]!, log, common)) common--;
    if (common < baseIndex) {
      let node = tree.find(log.chainHi(baseIndex), log.chainLo(baseIndex));
      if (node < 0 || tree.indexes[node] !== baseIndex)
        throw new Violation(
          'acknowledgement-truthful',
          `replica ${replica} starts its log behind entry ${baseIndex} with a chain that no log ever had there`,
        );
      for (let index = baseIndex; index >= 0 && path[index] !== node; index--) {
        path[index] = node;
        node = tree.parents[node]!;
      }
      common = baseIndex;
    }
    for (let index = common + 1; index <= lastIndex; index++) {
      const node = tree.extend(path[index - 1]!, log, index);
      path[index] = node;
      this.checkOnce(replica, path, index, node, log.lane(index));
    }
    if (mirror.verified > common && common < mirror.last) mirror.verified = common;
    mirror.last = lastIndex;
  }

  private isNode(node: number, log: LogView, index: number): boolean {
    return this.tree.chainHis[node] === log.chainHi(index) && this.tree.chainLos[node] === log.chainLo(index);
  }

  private checkOnce(replica: number, path: readonly number[], index: number, node: number, lane: number): void {
    const { tree } = this;
    // A Register may stand twice if its session was evicted in between; executing the second one must refuse it.
    if (lane === REGISTER_LANE) return;
    const request = tree.requests[node]!;
    const carriers = tree.carriersOf(request);
    if (carriers.length === 1) return;
    for (const carrier of carriers) {
      const at = tree.indexes[carrier]!;
      if (at < index && path[at] === carrier)
        throw new Violation(
          'at-most-once',
          `the log of replica ${replica} holds request ${tree.requestName(request)} at ${at} and at ${index}`,
        );
    }
  }

  private judge(statement: Statement): void {
    const { kind, replica, view, index } = statement;
    const record = this.record(view);
    if (kind === 'sync-ack') {
      this.judgeSyncAck(record, replica, index);
      return;
    }
    if (kind === 'reply') {
      this.acknowledged(record, statement);
      this.choose(record);
      return;
    }
    const node = this.tree.find(statement.chainHi, statement.chainLo);
    if (node < 0 || this.tree.indexes[node] !== index) {
      throw new Violation(
        'acknowledgement-truthful',
        `replica ${replica} says in view ${view} that entry ${index} has chain ${toHex(statement.chainHi, statement.chainLo)}, which no log ever had there`,
      );
    }
    if (record.primary !== replica)
      throw new Violation(
        'one-start',
        `replica ${replica} speaks as the primary of view ${view}, which is replica ${record.primary}`,
      );
    // A primary without others says nothing when the view starts: what it says first may be of an older request. It says
    // no more than was chosen before, because what is in its log beyond that may not be durable.
    const { path, last } = this.mirrors[replica]!;
    if (record.length < 0 && record.memberMask === 1 << replica && path[index] === node)
      this.primarySays(record, path[Math.min(last, Math.max(index, this.chosenLength))]!);
    this.primarySays(record, node);
    this.choose(record);
  }

  private judgeSyncAck(record: ViewRecord, replica: number, index: number): void {
    // Undefined: it has stopped since it said so.
    const state = this.states[replica];
    const mirror = this.mirrors[replica]!;
    if (index > Math.max(record.length, 0))
      throw new Violation(
        'acknowledgement-truthful',
        `replica ${replica} matches view ${record.view} up to ${index}, beyond what its primary has said (${record.length})`,
      );
    if (
      state?.view === record.view &&
      state.status === ReplicaStatus.normal &&
      (index > mirror.last || mirror.path[index] !== record.path[index])
    ) {
      throw new Violation(
        'acknowledgement-truthful',
        `replica ${replica} matches view ${record.view} up to ${index}, where its log has ${this.tree.describe(mirror.path[index] ?? -1)} and the primary's ${this.tree.describe(record.path[index]!)}`,
      );
    }
    if (record.vouched[replica]! < index) record.vouched[replica] = index;
    this.choose(record);
  }

  private primarySays(record: ViewRecord, node: number): void {
    const { tree } = this;
    const { path } = record;
    const index = tree.indexes[node]!;
    const first = record.length < 0;
    if (index <= record.length) {
      if (path[index] !== node)
        throw new Violation(
          'one-start',
          `the primary of view ${record.view}, replica ${record.primary}, said ${tree.describe(path[index]!)} and now ${tree.describe(node)}`,
        );
      return;
    }
    let at = index;
    let walk = node;
    for (; at > Math.max(record.length, 0); at--) {
      path[at] = walk;
      walk = tree.parents[walk]!;
    }
    if (path[at] !== walk)
      throw new Violation(
        'one-start',
        `the primary of view ${record.view}, replica ${record.primary}, said ${tree.describe(path[at]!)} and now ${tree.describe(node)}, which does not follow from it`,
      );
    record.length = index;
    if (first) {
      this.checkEpochs(record);
      for (const lower of this.ordered) {
        if (lower.view >= record.view) break;
        this.checkContains(record, lower);
      }
    }
    if (record.pending.length > 0) {
      const pending = record.pending;
      record.pending = [];
      for (const acknowledgement of pending) this.acknowledged(record, acknowledgement);
    }
  }

  /**
   * Invariants OneActive and Decided of the model: a view that starts has V voters of its epoch behind it, and V of the
   * one before, that promised it.
   */
  private checkEpochs({ view }: ViewRecord): void {
    const own = this.epochs.of(view);
    const before = this.epochs.before(own);
    const promised = ({ ids }: Configuration, from: number): number =>
      ids.filter((id) => (this.views.get(id) ?? -1) >= from).length;
    if (own.epoch > 0 && promised(own, view) < own.votes)
      throw new Violation('one-start', `view ${view} starts with ${promised(own, view)} of ${own.votes} votes`);
    if (before !== undefined && promised(before, own.first) < before.votes)
      throw new Violation(
        'one-start',
        `view ${view} starts while ${before.n - promised(before, own.first)} voters of epoch ${before.epoch} have not left it`,
      );
  }

  /** Invariant EpochInLog of the model: the log of a view says in which epoch it is. */
  private checkEpoch(replica: number, { view, execution }: ReplicaStateView): void {
    const { epoch } = this.epochs.of(view);
    const started = execution?.membership.started ?? 0;
    if (started !== epoch)
      throw new Violation(
        'one-start',
        `the primary of view ${view}, replica ${replica}, has a log of epoch ${started} and leads one of epoch ${epoch}`,
      );
  }

  /**
   * A member acknowledges a prefix: it vouches for the part that this has in common with the primary's. A chain that no
   * log is known to have had (it was cut before its message left the disk's queue) vouches for nothing until the
   * primary announces it.
   */
  private acknowledged(record: ViewRecord, acknowledgement: Acknowledgement): void {
    const { replica, index, chainHi, chainLo } = acknowledgement;
    if (index > record.length) record.pending.push(acknowledgement);
    const node = this.tree.find(chainHi, chainLo);
    if (node < 0) return;
    if (this.tree.indexes[node] !== index)
      throw new Violation(
        'acknowledgement-truthful',
        `replica ${replica} acknowledges ${index} with the chain of ${this.tree.describe(node)}`,
      );
    this.vouch(record, replica, node);
  }

  private vouch(record: ViewRecord, replica: number, node: number): void {
    const { tree } = this;
    const { path } = record;
    let walk = node;
    let index = tree.indexes[walk]!;
    while (index > record.vouched[replica]! && (index > record.length || path[index] !== walk)) {
      walk = tree.parents[walk]!;
      index--;
    }
    if (index > record.vouched[replica]!) record.vouched[replica] = index;
  }

  private choose(record: ViewRecord): void {
    let length = record.length;
    for (let r = 0; r < this.replicas; r++) {
      if (r !== record.primary && ((record.memberMask >>> r) & 1) === 1) length = Math.min(length, record.vouched[r]!);
    }
    if (length <= record.chosen) return;
    const { chosen, tree } = this;
    const known = Math.min(length, this.chosenLength);
    if (chosen[known] !== record.path[known]) {
      throw new Violation(
        'chosen-agree',
        `view ${record.view} commits ${tree.describe(record.path[known]!)}, another view committed ${tree.describe(chosen[known]!)}`,
      );
    }
    for (let index = known + 1; index <= length; index++) {
      const node = record.path[index]!;
      chosen.push(node);
      this.chosenRequests[tree.requests[node]!] = index;
    }
    record.chosen = length;
    for (let i = this.ordered.length - 1; i >= 0 && this.ordered[i]!.view > record.view; i--) {
      if (this.ordered[i]!.length >= 0) this.checkContains(this.ordered[i]!, record);
    }
    for (let r = 0; r < this.replicas; r++) this.checkStable(r);
  }

  /** What view `lower` chose is in the log of `record`, a later view. */
  private checkContains(record: ViewRecord, lower: ViewRecord): void {
    if (lower.chosen > record.length || record.path[lower.chosen] !== this.chosen[lower.chosen]) {
      throw new Violation(
        'never-lost',
        `view ${lower.view} committed ${this.tree.describe(this.chosen[lower.chosen]!)}; the primary of view ${record.view}, replica ${record.primary}, has ${this.tree.describe(record.path[Math.min(lower.chosen, record.length)]!)}`,
      );
    }
  }

  private checkStable(replica: number): void {
    const state = this.states[replica];
    if (state === undefined || state.status !== ReplicaStatus.normal) return;
    const mirror = this.mirrors[replica]!;
    for (let i = this.ordered.length - 1; i >= 0; i--) {
      const record = this.ordered[i]!;
      if (record.view > state.view || record.chosen === 0) continue;
      if (record.view === state.view && !this.epochs.isMember(record.view, replica)) continue;
      if (record.chosen > mirror.last || mirror.path[record.chosen] !== this.chosen[record.chosen]) {
        throw new Violation(
          'chosen-stable',
          `view ${record.view} committed ${this.tree.describe(this.chosen[record.chosen]!)}; replica ${replica}, in view ${state.view}, has ${this.tree.describe(mirror.path[Math.min(record.chosen, mirror.last)]!)}`,
        );
      }
    }
  }

  private checkCommitted(replica: number, mirror: Mirror, state: ReplicaStateView): void {
    const { committed } = state;
    // A quorum of one commits what it appends. Nobody else sees that before it is durable and said.
    if (state.status === ReplicaStatus.normal && this.epochs.memberMask(state.view) === 1 << replica)
      this.alone[replica] = committed;
    if (committed <= this.alone[replica]!) return;
    if (committed > this.chosenLength || committed > mirror.last || mirror.path[committed] !== this.chosen[committed]) {
      throw new Violation(
        'committed-truthful',
        `replica ${replica} takes ${committed} entries for committed, the last ${this.tree.describe(mirror.path[committed] ?? -1)}; chosen are ${this.chosenLength}, there ${this.tree.describe(this.chosen[committed] ?? -1)}`,
      );
    }
  }

  private checkExecuted(replica: number, mirror: Mirror, state: ReplicaStateView, probe: MachineProbe): void {
    const { executed } = state;
    if (executed > mirror.last)
      throw new Violation(
        'executed-agree',
        `replica ${replica} has executed ${executed} entries of a log of ${mirror.last}`,
      );
    if (probe.restores !== mirror.restores) {
      mirror.restores = probe.restores;
      mirror.verified = 0;
    } else {
      for (let index = mirror.executed + 1; index <= executed; index++) probe.digests[index] ??= EXECUTED_NOTHING;
    }
    mirror.executed = executed;
    const end = Math.min(executed, this.chosenLength);
    while (mirror.verified < end) {
      const index = mirror.verified + 1;
      if (mirror.path[index] !== this.chosen[index]) break;
      const digest = probe.digests[index];
      if (digest !== undefined) {
        if (this.digests[index] === undefined) this.executed?.(replica, index);
        const canonical = (this.digests[index] ??= digest);
        if (canonical !== digest)
          throw new Violation(
            'executed-agree',
            `replica ${replica} executed entry ${index} (${this.tree.requestName(this.tree.requests[this.chosen[index]!]!)}) with another result than another replica did`,
          );
      }
      mirror.verified = index;
    }
  }

  private record(view: number): ViewRecord {
    let record = this.records.get(view);
    if (record === undefined) {
      record = {
        view,
        primary: this.epochs.primary(view),
        memberMask: this.epochs.memberMask(view),
        path: [ROOT],
        length: -1,
        vouched: new Array<number>(this.replicas).fill(0),
        pending: [],
        chosen: 0,
      };
      this.records.set(view, record);
      let at = this.ordered.length;
      while (at > 0 && this.ordered[at - 1]!.view > view) at--;
      this.ordered.splice(at, 0, record);
    }
    return record;
  }
}
