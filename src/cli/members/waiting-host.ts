/// <reference lib="esnext.disposable" preserve="true" />
/**
 * A process that waits to be added to a cluster: `jitpaxos replica --join`.
 *
 * It tells an operator's tool what it is, asks the cluster who the members are, and ends its wait when its own identity is
 * among them. Then the log has given it an id, and it can start as a replica. Before that it is nobody: it takes part in
 * nothing, and its identity is durable before it is told.
 */
import { JitPaxosError } from '../../errors.js';
import { openClock } from '../../clock/open.js';
import type { Clock } from '../../clock/clock.js';
import { Inquiry, type Answered, type InquiryOptions } from '../../client/inquiry.js';
import { MEMBERS_QUESTION, MembersClient, type KnownMembers } from '../../client/members-client.js';
import { AddressBook } from '../../host/address-book.js';
import { openChain, showFingerprint } from '../../host/chain.js';
import {
  addressText,
  hostAndPortOf,
  loadCluster,
  type Cluster,
  type ClusterConfig,
  type HostAndPort,
} from '../../host/cluster-config.js';
import { loadKeys, type KeyFile } from '../../host/key-file.js';
import { keyFileBeside, openKeys, type ProcessKeys } from '../../host/keyring.js';
import type { Logger } from '../../host/logger.js';
import { newerFirst } from './agreement.js';
import { AskPace } from './ask-pace.js';
import { encodeWaiting, type WaitingReport } from '../../host/waiting-report.js';
import type { TransportKind } from '../../host/transport-choice.js';
import { TurnLoop } from '../../host/turn-loop.js';
import { version } from '../../host/version.js';
import { loadHash } from '../../native/hash64.js';
import { FEATURE_NAMES } from '../../protocol/log/features.js';
import { DirectoryLock } from '../../storage/directory-lock.js';
import { DirectoryFiles } from '../../storage/files.js';
import { checkOwner } from '../../storage/hard-state.js';
import { findOwner } from '../../storage/inspection.js';
import { beginJoining, readJoining } from '../../storage/joining-file.js';
import { HOST_PLACES, WAITING_ID } from '../../wire/host-ids.js';
import type { MemberList } from '../../wire/member-list.js';
import { Status, typeOf } from '../../wire/messages.js';
import { hasProven } from '../../server/status-rates.js';
import { StatusService } from '../../server/status-service.js';

/** After this much silence of all hosts that it asks, an operator should know. */
const SILENCE_MS = 5_000;

export interface WaitingOptions {
  readonly cluster: string | ClusterConfig;
  readonly keys?: string | KeyFile;
  /** Where the replica will be reached. */
  readonly listen: HostAndPort;
  readonly data: string;
  readonly transport?: TransportKind | undefined;
  readonly logger: Logger;
}

/** What the log made of the waiting process. */
export interface Added {
  readonly id: number;
  readonly list: MemberList;
}

export class WaitingHost {
  private isClosed = false;
  private timer: NodeJS.Timeout | undefined;
  private endPause: () => void = () => undefined;
  private failure: unknown;
  /** Asks the hosts that the newest list has and the cluster file lacks, which `of` says. */
  private others: { readonly of: string; readonly inquiry: Inquiry<KnownMembers> | undefined } = {
    of: '',
    inquiry: undefined,
  };

  private constructor(
    /** Of its data directory. */
    readonly identity: string,
    private readonly lock: DirectoryLock,
    private readonly loop: TurnLoop,
    private readonly clock: Clock,
    private readonly members: MembersClient,
    /** How it asks. */
    private readonly asking: InquiryOptions & { readonly logger: Logger },
  ) {}

  /**
   * The id that a data directory has already, as the promises in it say; undefined if there is no replica in it yet.
   *
   * Throws JitPaxosError `data-directory-foreign` if it is of another cluster.
   */
  static async idIn(data: string, cluster: Cluster): Promise<number | undefined> {
    const found = await findOwner(new DirectoryFiles(data), loadHash()).catch((error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT') return undefined;
      throw error;
    });
    if (found === undefined) return undefined;
    checkOwner(data, { clusterHi: cluster.idHi, clusterLo: cluster.idLo, replica: found.replica }, found);
    return found.replica;
  }

  /**
   * Locks the data directory, and answers from now on. Throws JitPaxosError: those of `Replica.start` for files, keys,
   * directory and address, and `data-directory-unusable` if the directory holds anything else.
   */
  static async open(options: WaitingOptions): Promise<WaitingHost> {
    const { data, listen, logger } = options;
    const cluster = loadCluster(options.cluster);
    const hash = loadHash();
    const keys = openKeys(cluster, options.cluster, options.keys, 'replica');
    const chain = openChain(cluster, keys?.takeChainSecret(), hash);
    const opened: (() => void | Promise<void>)[] = [];
    try {
      const lock = DirectoryLock.acquire(data);
      opened.push(() => lock.release());
      const identity = await identityOf(data, cluster);
      const book = await AddressBook.open({ replicas: [listen] });
      const address = book.addresses[0]!;
      book.close();
      const clock = openClock('monotonic');
      opened.push(() => clock.close());
      let host: WaitingHost | undefined;
      const loop = new TurnLoop({
        cluster,
        book: await AddressBook.open(cluster),
        listen: address,
        listenFrom: 'flag',
        sender: WAITING_ID,
        slot: HOST_PLACES - 1,
        transport: options.transport,
        idle: 'block',
        datagramBytes: undefined,
        keys: keys?.ring,
        wireVersion: undefined,
        clock,
        hash,
        notice: (event, fields) => logger.warn(event, fields),
        failed: (error) => host?.fail(error),
      });
      opened.push(() => loop.close());
      await loop.open();
      const asking = { cluster: options.cluster, ...clientKeysOf(cluster, options.cluster, options.keys), logger };
      const members = await MembersClient.open(asking);
      opened.push(() => members.close());
      const service = new StatusService<Omit<WaitingReport, 'schema'>>(
        () => ({
          cluster: cluster.id,
          version: version(),
          pid: process.pid,
          address: addressText(listen),
          identity,
          limits: cluster.limits,
          chain: { function: cluster.chain, fingerprint: showFingerprint(chain.fingerprint) },
          features: FEATURE_NAMES,
          view: 0,
        }),
        loop.outbox,
        (error) => logger.error('replica.status-failed', { error, next: 'please report this' }),
        loop.datagramBytes,
        encodeWaiting,
      );
      answerWith(service, loop, keys);
      host = new WaitingHost(identity, lock, loop, clock, members, asking);
      return host;
    } catch (error) {
      for (const close of opened.reverse()) await close();
      throw error;
    }
  }

  /** Resolves when the members list this identity; undefined: it was closed before. Rejects with what broke it. */
  added(): Promise<Added | undefined> {
    return this.askOn().catch((error: unknown) => {
      if (this.isClosed) return undefined; // the question that was open could not be answered any more
      throw error;
    });
  }

  private async askOn(): Promise<Added | undefined> {
    const pace = new AskPace();
    const listedIn = (answer: KnownMembers | undefined): Added | undefined => {
      const host = answer?.list.hosts.find(({ identity }) => identity === this.identity);
      return host === undefined ? undefined : { id: host.id, list: answer!.list };
    };
    const isEnough = (answer: KnownMembers): boolean => listedIn(answer) !== undefined;
    let heardMs = performance.now();
    let isWarned = false;
    while (!this.isClosed) {
      const { inquiry } = this.others;
      const [own, others = []] = await Promise.all([
        this.members.ask(pace.roundMs, isEnough),
        inquiry?.ask(pace.roundMs, isEnough),
      ]);
      const answers = [...own, ...others];
      if (this.failure !== undefined) throw this.failure;
      for (const { answer } of answers) {
        const added = listedIn(answer);
        if (added !== undefined) return added;
      }
      pace.heard(answers);
      await this.follow(answers);
      if (answers.some(({ answer }) => answer !== undefined)) {
        heardMs = performance.now();
        isWarned = false;
      } else if (!isWarned && performance.now() - heardMs > SILENCE_MS) {
        isWarned = true;
        this.asking.logger.warn('replica.nobody-answers', {
          asked: [...new Set(answers.map(({ address }) => address))],
          next: 'start these hosts. If the members are at other addresses by now, take a newer cluster file (jitpaxos member list --write FILE, where one is known), and start this process again with it',
        });
      }
      if (answers.every(({ answer }) => answer !== undefined))
        await new Promise<void>((resolve) => {
          this.endPause = resolve;
          this.timer = setTimeout(resolve, pace.roundMs);
        });
    }
    return undefined;
  }

  /**
   * An old cluster file is enough, as long as one host in it answers: the hosts that the newest list has are asked too. A
   * host that has left may never hear of the last change.
   */
  private async follow(answers: readonly Answered<KnownMembers>[]): Promise<void> {
    const [newest] = answers.flatMap(({ answer }) => (answer === undefined ? [] : [answer.list])).sort(newerFirst);
    if (newest === undefined) return;
    const { replicas } = this.members.cluster;
    const missing = newest.hosts.flatMap(({ id, address }) => {
      const at = hostAndPortOf(address);
      const inFile = replicas[id];
      return at === undefined || (inFile !== undefined && addressText(inFile) === address) ? [] : [{ id, at }];
    });
    const of = JSON.stringify(missing);
    if (of === this.others.of || this.isClosed) return;
    await this.others.inquiry?.close();
    // A name that does not resolve here says nothing of the others: the process waits on.
    const inquiry =
      missing.length === 0
        ? undefined
        : await Inquiry.open('jitpaxos replica --join', this.asking, MEMBERS_QUESTION, missing).catch(() => undefined);
    this.others = { of, inquiry };
    if (this.isClosed) await inquiry?.close();
  }

  /** Releases the address and the directory. */
  async close(): Promise<void> {
    this.isClosed = true;
    clearTimeout(this.timer);
    this.endPause();
    await this.others.inquiry?.close();
    await this.members.close();
    await this.loop.close();
    this.clock.close();
    this.lock.release();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  private fail(error: unknown): void {
    this.failure = error;
  }
}

/** Of the directory, which is drawn if the directory is empty. Throws JitPaxosError `data-directory-unusable`. */
async function identityOf(data: string, cluster: Cluster): Promise<string> {
  const files = new DirectoryFiles(data);
  const owner = { clusterHi: cluster.idHi, clusterLo: cluster.idLo };
  const hash = loadHash();
  const before = await readJoining(files, owner, hash, data);
  if (before !== undefined) return before;
  const others = (await files.list()).filter((name) => !name.startsWith('lock'));
  if (others.length > 0)
    throw new JitPaxosError(
      'data-directory-unusable',
      `${data} is not empty (${others.slice(0, 3).join(', ')}${others.length > 3 ? ', …' : ''}), and a host that is added begins with an empty directory; give another one with --data, or empty it if nothing in it is needed`,
    );
  return beginJoining(files, owner, hash);
}

function answerWith(service: Pick<StatusService, 'onStatus'>, loop: TurnLoop, keys: ProcessKeys | undefined): void {
  loop.start({
    receive: (bytes, offset, _length, from, now, owner) => {
      if (typeOf(bytes, offset) !== Status.type) return;
      service.onStatus(bytes, offset, from, now, owner, hasProven(loop.peers, keys?.ring, from, owner));
    },
    tick: () => undefined,
    unreachable: () => undefined,
    endTurn: () => undefined,
    writeWakeUs: (out) => void (out[0] = Infinity),
    longestQuietUs: Infinity,
  });
}

/**
 * A client's key asks for the members: a process without an id may not speak as a replica. Throws JitPaxosError
 * `key-role` if the file has none.
 */
function clientKeysOf(
  cluster: Cluster,
  source: string | ClusterConfig,
  keys: string | KeyFile | undefined,
): { readonly keys?: KeyFile } {
  if (cluster.authentication === 'none') return {};
  const file = loadKeys(keys ?? keyFileBeside(source as string, 'replica'), cluster.id, 'replica');
  const key = file.keys.find(({ role }) => role !== 'replica');
  if (key === undefined)
    throw new JitPaxosError(
      'key-role',
      "the replicas' key file has no client's key, and one is needed to ask who the members are; add one (jitpaxos keys add), and copy the file to every replica",
    );
  return { keys: { schema: file.schema, cluster: file.cluster, use: key.id, keys: [key] } };
}
