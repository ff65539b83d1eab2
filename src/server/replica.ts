/// <reference lib="esnext.disposable" preserve="true" />
/**
 * A replica in this process: opens what a replica core needs, drives it, and stops it when necessary.
 *
 * The rule: nothing is sent before the data directory is locked and the hard state is known, and nothing after the core
 * or its storage threw. A stopped replica is one failure, which the cluster survives; a wrong replica may not be
 * survivable.
 */
import { randomInt } from 'node:crypto';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { HostClock, type ClockQuality } from '../clock/host-clock.js';
import { JitPaxosError, type ErrorCode } from '../errors.js';
import type { Family } from '../metrics/exposition.js';
import { beginHash64, loadHash, type Hash64 } from '../native/hash64.js';
import { ForgottenError } from '../protocol/replica/introduction.js';
import { DEFAULT_LATE } from '../protocol/config.js';
import { DivergedError } from '../protocol/replica/diverged-error.js';
import { Feature, featuresNamed } from '../protocol/log/features.js';
import { encodeMembership, hostOf, type Membership } from '../protocol/membership/membership.js';
import { identityOf, membershipOf } from '../protocol/membership/member-lists.js';
import { leaseFiguresOf, watchableOf } from '../machine/kv.js';
import type { RestoreInPieces, StateMachine } from '../machine/state-machine.js';
import type { Instant } from '../protocol/contract.js';
import { DOUBLE_ZERO } from '../protocol/double-zero.js';
import { ReplicaCore } from '../protocol/replica/replica-core.js';
import type { DirectoryLock } from '../storage/directory-lock.js';
import { MEMBERS_FILE } from '../storage/members-file.js';
import { markDiverged } from '../storage/divergence-mark.js';
import { DurableStorage } from '../storage/durable-storage.js';
import type { MemoryStorage } from '../storage/memory-storage.js';
import type { Address } from '../transport/transport.js';
import type { MemberList } from '../wire/member-list.js';
import { HOST_PLACES } from '../wire/host-ids.js';
import { MEMBERS_WIRE_VERSION } from '../wire/versions.js';
import {
  AskMembers,
  AskTimes,
  Members,
  ReplicaStatus,
  Status,
  typeOf,
  Watch,
  type TypesFor,
} from '../wire/messages.js';
import { CHAIN_REMEDY, chainWarning, openChain } from '../host/chain.js';
import { listDigest, loadCluster, mergeLimits, type Cluster } from '../host/cluster-config.js';
import { HostPlaces, placeOf, seedsOf } from '../host/host-places.js';
import { MemberSearch } from '../host/member-search.js';
import { guardedLogger, stderrLogger, type Logger } from '../host/logger.js';
import { replicaMetrics } from './replica-metrics.js';
import { checkOptions, mergeTimings, type ReplicaOptions } from './replica-options.js';
import { restoreInSlices, restoreProgress } from './restore-in-slices.js';
import { findOwnPlace, outOfRange, sayPlace } from './own-place.js';
import { DEFAULT_DURABILITY, openStorage } from './storage-choice.js';
import type { Durability } from '../storage/durability.js';
import { hasProven } from './status-rates.js';
import { KnownMembers } from './known-members.js';
import { askerOf } from './members-rates.js';
import { MembersService } from './members-service.js';
import { statusReport } from './status-report.js';
import { StatusService } from './status-service.js';
import { TimesService } from './times-service.js';
import { HURRY_US, WatchService } from './watches/watch-service.js';
import { SlowSnapshots } from './slow-snapshots.js';
import { transitionLogger, transitionState } from './transition-log.js';
import { majorityLostText, protocolReport, type ReplicaStatusReport } from '../host/status.js';
import { OpenChange } from '../host/membership-report.js';
import { forgotten, refuseTaken, removed } from './host-identity.js';
import { openKeys, type ProcessKeys } from '../host/keyring.js';
import { TurnLoop } from '../host/turn-loop.js';
import { TwoLives, twoLivesText } from '../host/two-lives.js';
import { version } from '../host/version.js';
import { WITHOUT_KEYS_EVENT, WITHOUT_KEYS_REMEDY, withoutKeysWarning } from '../host/without-keys.js';

/** After this much silence of all hosts that it knows, a replica asks elsewhere who the members are. */
const SILENCE_US = 1_000_000;
/** After a longer time without a tick, a core assumes that its host stalled, and suspects nobody. */
const TICK_INTERVAL_US = 5_000;
/** A replica that has not heard its primary for longer, or lacks what this one said to be committed, serves no watches. */
const IN_TOUCH_US = 500_000;
/** Ticks so far apart mean that this process stood still. */
const STALL_US = 50_000;

export class Replica {
  /**
   * Resolves when the replica was closed; rejects with the error that stopped it: InvariantError, or JitPaxosError
   * `storage-failed`, `promises-forgotten`, `replica-id-taken`, `replica-removed`, `log-diverged`, `state-diverged`, `limits-differ`, `feature-unknown`.
   */
  readonly closed: Promise<void>;

  private readonly startedAtMs = performance.now();
  private readonly statusService: StatusService;
  private readonly membersService: MembersService;
  private readonly timesService: TimesService;
  private readonly watchService: WatchService;
  private readonly memberSearch: MemberSearch;
  private readonly places: HostPlaces;
  private readonly knownMembers: KnownMembers;
  /** Those that were compared with the identity of the data directory. */
  private checkedMembers: Membership | undefined;
  private readonly openChange = new OpenChange(this.startedAtMs);
  private readonly twoLives = new TwoLives(HOST_PLACES);
  /** When a host that is listed last spoke, monotonic. */
  private heardUs = DOUBLE_ZERO;
  private running = true;
  private closing: Promise<void> | undefined;
  private failure: unknown;
  private resolveClosed!: () => void;
  private rejectClosed!: (error: unknown) => void;

  private constructor(
    readonly id: number,
    private readonly cluster: Cluster,
    private readonly address: Address,
    private readonly core: ReplicaCore,
    private readonly keys: ProcessKeys | undefined,
    private readonly loop: TurnLoop,
    private readonly clock: HostClock,
    private readonly durability: Durability,
    private readonly storage: MemoryStorage | DurableStorage,
    private readonly lock: DirectoryLock | undefined,
    private readonly data: string | undefined,
    private readonly logger: Logger,
    private readonly logLost: boolean,
    storedMembers: Membership,
    hash: Hash64,
    private readonly machine: StateMachine,
  ) {
    this.statusService = new StatusService(
      () => this.status(),
      loop.outbox,
      (error) =>
        logger.error('replica.status-failed', {
          replica: id,
          error,
          next: 'the replica continues; please report this',
        }),
      loop.datagramBytes,
    );
    this.knownMembers = new KnownMembers(id, cluster, core.state, storage);
    const own = hostOf(storedMembers, id);
    this.memberSearch = new MemberSearch(
      loop,
      seedsOf(cluster, [address, own === undefined ? undefined : placeOf(own, cluster)]),
      hash,
      () => core.state.members,
      (list, _view, now) => this.membersFound(list, now),
    );
    this.places = new HostPlaces(loop, cluster, this.memberSearch, storedMembers);
    this.membersService = new MembersService(
      (forHosts) => (forHosts ? this.knownMembers.forHosts() : this.knownMembers.forTools()),
      () => core.state.view,
      loop.outbox,
      hash,
      loop.datagramBytes,
    );
    this.timesService = new TimesService(
      {
        view: () => core.state.view,
        awaited: () => core.awaited,
        isDurable: (token) => core.isDurable(token),
        clock,
      },
      loop.outbox,
      hash,
    );
    this.watchService = new WatchService(
      {
        store: () => watchableOf(machine),
        committed: () => core.state.committed,
        view: () => core.state.view,
        serves: () => core.state.status === ReplicaStatus.normal,
        isInTouch: (now) => core.isInTouch(now, IN_TOUCH_US),
        isPrimary: () => core.state.isPrimary,
        primary: () => core.state.primary,
        hurry: (now) => core.hurry(now, HURRY_US),
        isProven: (endpoint, owner) => hasProven(loop.peers, this.keys?.ring, endpoint, owner),
        challenge: (endpoint) => loop.outbox.challengeAddress(endpoint),
      },
      loop.outbox,
      loop.datagramBytes,
      () => randomInt(1, 0x7fffffff),
    );
    this.closed = new Promise((resolve, reject) => {
      this.resolveClosed = resolve;
      this.rejectClosed = reject;
    });
    this.closed.catch(() => undefined); // a caller that does not look at it still has the log
  }

  /**
   * Starts a replica; resolves when it takes part.
   *
   * Throws JitPaxosError `option-invalid`, `cluster-file-unreadable`, `cluster-file-invalid`, `key-file-unreadable`,
   * `key-file-invalid`, `key-file-exposed`, `chain-secret-missing`, `chain-differs`, `host-unresolved`,
   * `replica-id-out-of-range`, `port-in-use`, `address-unavailable`, `data-directory-locked`,
   * `data-directory-unusable`, `data-directory-foreign`, `cluster-file-changed`, `hard-state-corrupt`,
   * `hard-state-missing`, `members-corrupt`, `replica-id-taken`, `replica-removed`, `boot-id-unknown`, `limits-too-small`,
   * `restore-missing`, `log-diverged`, `state-diverged`, `storage-failed`; and ClockError.
   */
  static async start(options: ReplicaOptions): Promise<Replica> {
    checkOptions(options);
    const cluster = loadCluster(options.cluster);
    const { id } = options;
    const replicas = cluster.replicas.length;
    // Only the list in a data directory can name a host that the cluster file does not. Nothing is made before that is sure.
    const mayBeListed = options.data !== undefined && existsSync(join(options.data, MEMBERS_FILE));
    if (!Number.isInteger(id) || id < 0 || (id >= replicas && !mayBeListed)) throw outOfRange(id, replicas);
    const limits = mergeLimits('option-invalid', 'Replica.start: limits', cluster.limits, options.limits);
    const timings = mergeTimings(options.timings);
    const logger = guardedLogger('Replica.start', options.logger ?? stderrLogger);
    const slowSnapshots = new SlowSnapshots(id, logger, timings.suspectUs / 1000);
    const keys = openKeys(cluster, options.cluster, options.keys, 'replica');
    const hash = loadHash();
    const chain = openChain(cluster, keys?.takeChainSecret(), hash);
    const unkeyed = chainWarning(cluster);
    if (unkeyed !== undefined) logger.warn('chain.unkeyed', { replica: id, warning: unkeyed, next: CHAIN_REMEDY });
    const opened: (() => void | Promise<void>)[] = [];
    try {
      let replica: Replica | undefined;
      const clock = await HostClock.open(options.clock ?? 'auto', {
        changed: (now, before) => replica?.clockChanged(now, before),
      });
      opened.push(() => clock.close());
      const durability = options.durability ?? (options.data === undefined ? 'memory' : DEFAULT_DURABILITY);
      const { storage, lock, members } = await openStorage({
        data: options.data,
        durability,
        cluster,
        limits,
        id,
        hash,
        logger,
        segmentBytes: options.segmentBytes,
        chain: chain.fingerprint,
      });
      opened.push(
        () => lock?.release(),
        () => storage.close(),
      );
      const stored = storage.recovered();
      const progress = restoreProgress(id, logger);
      const restore = await restoreInSlices(options.machine, stored.log?.snapshot, progress);
      opened.push(() => restore?.abort());
      // Before the log has changed the members, the cluster file says who they are.
      const isRemembered = stored.hardState?.members !== undefined || stored.members !== undefined;
      const place = await findOwnPlace(id, cluster, isRemembered ? members : undefined, options.listen);
      const { slot, ids, address } = place;
      const loop = new TurnLoop({
        cluster,
        book: place.book,
        listen: address,
        listenFrom: place.listenFrom,
        sender: id,
        slot,
        ids,
        transport: options.transport,
        idle: options.idle,
        datagramBytes: options.datagramBytes,
        keys: keys?.ring,
        wireVersion: options.wireVersion,
        clock,
        hash,
        notice: (event, fields) => logger.warn(event, { replica: id, ...fields }),
        failed: (error) => replica?.fail(error),
      });
      opened.push(() => loop.close());
      await loop.open();
      const core = new ReplicaCore(
        {
          id: slot,
          ...(place.remembered === undefined ? {} : { hostId: id }),
          replicas,
          seed: randomInt(-0x80000000, 0x7fffffff),
          list: listDigest(cluster, hash),
          late: options.late ?? DEFAULT_LATE,
          datagramBytes: loop.datagramBytes,
          limits,
          timings,
          features: featuresNamed(cluster.features),
        },
        loop.outbox,
        storage,
        options.machine,
        { hash64: (...args) => hash.hash64(...args), begin: beginHash64 },
        {
          wholeState: (isOver: boolean) => slowSnapshots.wholeState(isOver),
          ...transitionLogger(
            id,
            logger,
            () => replica?.core,
            (event) => replica?.openChange.heard(event, performance.now()),
          ),
          unknownEpoch: (from: number) => replica?.memberSearch.ask(from, loop.instant),
          searchMembers: () => replica?.memberSearch.search(loop.instant),
        },
        chain,
      );
      replica = new Replica(
        id,
        cluster,
        address,
        core,
        keys,
        loop,
        clock,
        durability,
        storage,
        lock,
        options.data,
        logger,
        options.logLost ?? false,
        place.listed,
        hash,
        options.machine,
      );
      replica.run(restore);
      if (!(storage instanceof DurableStorage)) await storage.settled();
      if (replica.failure !== undefined) throw replica.failure;
      sayPlace(place, id, cluster, logger);
      logger.info('replica.serving', {
        replica: id,
        cluster: cluster.id,
        version: version(),
        address: address.host,
        port: address.port,
        transport: loop.transport.kind,
        clock: clock.source,
        durability,
      });
      const withoutKeys = withoutKeysWarning(cluster);
      if (withoutKeys !== undefined)
        logger.warn(WITHOUT_KEYS_EVENT, { replica: id, warning: withoutKeys, next: WITHOUT_KEYS_REMEDY });
      return replica;
    } catch (error) {
      for (const close of opened.reverse()) await close();
      throw error;
    }
  }

  /**
   * Reads the key file again and replaces the current keys. If it throws, they stay: JitPaxosError
   * `key-file-unreadable`, `key-file-invalid`, `key-file-exposed`, `chain-differs`. Does nothing in a cluster without
   * keys.
   */
  reloadKeys(): void {
    if (this.keys === undefined || !this.running) return;
    this.logger.info('keys.reloaded', { replica: this.id, ...this.keys.reload() });
  }

  /** The replica's current status. Allocates: for operators and tools. */
  status(): ReplicaStatusReport {
    return statusReport({
      id: this.id,
      cluster: this.cluster,
      address: this.address,
      core: this.core,
      ring: this.keys?.ring,
      loop: this.loop,
      clock: this.clock,
      durability: this.durability,
      storage: this.storage,
      members: this.knownMembers.forTools(),
      openChange: this.openChange,
      statusRequests: this.statusService,
      membersRequests: this.membersService,
      timesRequests: this.timesService,
      watches: this.watchService,
      leases: leaseFiguresOf(this.machine),
      startedAtMs: this.startedAtMs,
      running: this.running,
      twoLives: this.twoLives.mask,
    });
  }

  private membersFound(list: MemberList, now: Instant): void {
    const { core, id } = this;
    if (!this.running || list.index <= core.state.members.index) return;
    if (core.state.starting) {
      const own = list.hosts.find((host) => host.id === id);
      if (own === undefined) throw removed(id, list.started, this.data);
      refuseTaken(id, own.identity, undefined, this.data);
    }
    // Before the log names all, only an epoch that runs short of views is followed by one that it decides, and addresses may
    // be those of the teller's cluster file.
    if (list.decided === 0 && list.hosts.some(({ identity }) => identity === undefined)) return;
    // One that is starting is told who counts, and still has to find out what it is.
    core.takeMembers(encodeMembership(membershipOf(list)), now);
  }

  /**
   * Rule S: where members can change, who speaks only an older version of the wire is not heard. Throws JitPaxosError
   * `option-invalid` if this process is held back to one.
   */
  private hearOnlyPresent(): void {
    const { core, loop } = this;
    const mayChange = (core.state.execution.features & Feature.membership) !== 0;
    if (mayChange && loop.peers.newest < MEMBERS_WIRE_VERSION)
      throw new JitPaxosError(
        'option-invalid',
        `the members of this cluster can change, and version ${loop.peers.newest} of the wire cannot say so; start this replica without --wire-version (library: wireVersion)`,
      );
    loop.reader.oldestSpeaker = mayChange ? MEMBERS_WIRE_VERSION : 0;
  }

  /** Rule S, C7: whatever says who the members are, the log or another replica. */
  private checkIdentity(): void {
    const { core, id, data, storage } = this;
    const { members } = core.state;
    if (members === this.checkedMembers) return;
    this.checkedMembers = members;
    // What an empty directory has drawn is not durable yet, and already is its identity.
    if (core.state.isOfAnother) refuseTaken(id, identityOf(hostOf(members, id)!), storage.identity, data);
  }

  /** The replica's current metrics, for an exporter. Allocates. */
  metrics(): Family[] {
    const { storage } = this;
    const disk =
      storage instanceof DurableStorage
        ? { writeUs: storage.times.writeUs.snapshot(), syncUs: storage.times.syncUs.snapshot() }
        : undefined;
    return replicaMetrics({
      report: this.status(),
      arrivalSlackUs: this.core.state.arrivalSlackUs.snapshot(),
      disk,
      residentBytes: process.memoryUsage.rss(),
    });
  }

  /** Why it has stopped; undefined if it runs. */
  unhealthy(): string | undefined {
    if (this.running) return undefined;
    return this.failure === undefined
      ? 'the replica was closed'
      : `the replica stopped: ${this.failure instanceof Error ? this.failure.message : String(this.failure)}`;
  }

  /** Why it does not serve; undefined if it does. A rolling restart waits for this before the next replica. */
  unready(): string | undefined {
    const { n: length } = this.core.state.configuration;
    const { status, majorityLost } = protocolReport(this.core.state, this.running);
    if (majorityLost !== undefined) return majorityLostText(majorityLost, length);
    if (status !== 'normal') return `status is ${status}`;
    const others = this.core.state.hosts.idsOf(this.core.state.others.otherChain);
    return others.length <= length >> 1
      ? undefined
      : `its chain has another secret than that of replicas ${others.join(', ')}`;
  }

  /** Stops taking part; the others continue while they are a majority. Closing again waits for the first call. */
  close(): Promise<void> {
    this.closing ??= this.releaseAll().then(() => {
      if (this.failure === undefined) this.resolveClosed();
      else this.rejectClosed(this.failure);
    });
    return this.closing;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /** @param restore has the machine's part of the snapshot on the disk */
  private run(restore: RestoreInPieces | undefined): void {
    const { core, loop, statusService, membersService, timesService, watchService } = this;
    let tickedUs = DOUBLE_ZERO;
    this.listenToStorage();
    loop.start({
      receive: (bytes, offset, length, from, now, owner) => {
        if (from < HOST_PLACES && from !== core.state.id) this.heardUs = now.monotonicUs;
        const known = typeOf(bytes, offset) as TypesFor<'replicaHost'>;
        switch (known) {
          case Status.type:
            statusService.onStatus(
              bytes,
              offset,
              from,
              now,
              owner,
              hasProven(loop.peers, this.keys?.ring, from, owner),
            );
            return;
          case AskMembers.type:
            membersService.onAskMembers(
              bytes,
              offset,
              from,
              now,
              owner,
              askerOf(from, loop.reader.isUnlisted, hasProven(loop.peers, this.keys?.ring, from, owner)),
            );
            return;
          case AskTimes.type:
            timesService.onAskTimes(
              bytes,
              offset,
              from,
              now,
              owner,
              hasProven(loop.peers, this.keys?.ring, from, owner),
            );
            return;
          case Watch.type:
            watchService.onWatch(bytes, offset, from, now, owner);
            return;
          case Members.type:
            this.memberSearch.onMembers(bytes, offset, now);
            return;
          default:
            known satisfies never; // each message for the host has its case; the others are for the core
            core.receive(bytes, offset, length, from, now, owner);
        }
      },
      refuse: (bytes, offset, from, now) => core.refuse(bytes, offset, from, now),
      refuseRole: (bytes, offset, from, now) => core.refuseRole(bytes, offset, from, now),
      tick: (now) => {
        // While this process stood still, it heard nobody.
        const passedUs = now.monotonicUs - tickedUs;
        if (passedUs > STALL_US) this.heardUs = Math.min(now.monotonicUs, this.heardUs + passedUs);
        tickedUs = now.monotonicUs;
        core.tick(now);
        const copied = this.twoLives.look(loop.streamReturns, core.state.hosts, now.monotonicUs);
        if (copied !== 0)
          this.logger.warn('replica.two-lives', { replica: this.id, ...twoLivesText(core.state.hosts.idsOf(copied)) });
        watchService.tick(now);
        if (core.state.starting || now.monotonicUs - this.heardUs > SILENCE_US) this.memberSearch.search(now);
      },
      unreachable: (replica, now) => core.unreachable(replica, now),
      unlisted: (host, endpoint, length, now) => this.memberSearch.unlisted(host, endpoint, length, now),
      endTurn: (now) => {
        // Before the flush: what was said to a host in the turn in which it left still goes there.
        this.checkIdentity();
        this.hearOnlyPresent();
        this.places.follow(core.state.members);
        core.flush(now);
        timesService.endTurn();
        watchService.push(now);
      },
      writeWakeUs: (out) => {
        core.writeWakeUs(out);
        watchService.wakeBefore(out);
      },
      longestQuietUs: TICK_INTERVAL_US,
    });
    core.trustClock(this.clock.quality.healthy);
    const recovered = this.storage.recovered();
    const first = this.logLost ? 'log-lost' : 'ask';
    // A host that joins knows that it is new: the members that it was given say so.
    this.heardUs = loop.instant.monotonicUs;
    tickedUs = this.heardUs;
    const log = recovered.log === undefined ? undefined : { ...recovered.log, restore };
    core.start({ ...recovered, ...(recovered.members === undefined ? { first } : {}), log }, loop.enter());
    loop.incarnation = core.state.incarnation;
    loop.endTurn();
  }

  /** Logged once for each change; counted in the clock's report. */
  private clockChanged(now: ClockQuality, before: ClockQuality): void {
    this.core.trustClock(now.healthy);
    const fields = {
      replica: this.id,
      clock: this.clock.source,
      from: before.status,
      to: now.status,
      errorNs: now.errorNs,
      found: now.found,
    };
    if (now.healthy) this.logger.info('replica.clock', fields);
    else
      this.logger.warn('replica.clock', {
        ...fields,
        next: 'commits continue, perhaps more slowly; jitpaxos clock list and jitpaxos doctor say more',
      });
  }

  private listenToStorage(): void {
    const { storage, core, loop, logger, id } = this;
    if (!(storage instanceof DurableStorage)) {
      storage.persisted = (token) => core.persisted(token);
      storage.events = {
        persisted: (token) => loop.turn(() => core.persisted(token)),
        failed: (error) => this.fail(error),
      };
      return;
    }
    storage.events = {
      persisted: (token) => loop.turn(() => core.persisted(token)),
      rewrite: () => loop.turn(() => core.rewriteLog()),
      failed: (error) =>
        logger.error('storage.failed', {
          replica: id,
          error: error.message,
          next: 'this replica acknowledges nothing until its disk can be written again; check space, permissions and errors',
        }),
      healed: () => logger.warn('storage.healed', { replica: id, next: 'nothing: the log was written again, whole' }),
      broken: (error) => this.fail(error),
    };
  }

  private fail(cause: unknown): void {
    const error =
      cause instanceof DivergedError
        ? new JitPaxosError(cause.code, cause.message, cause)
        : cause instanceof ForgottenError
          ? forgotten(cause, this.data ?? '')
          : cause;
    this.failure = error;
    if (
      error instanceof JitPaxosError &&
      this.storage instanceof DurableStorage &&
      (error.code === 'log-diverged' || error.code === 'state-diverged')
    )
      this.mark(error.code, error.message);
    const described = error instanceof Error ? { error: error.message, stack: error.stack } : { error: String(error) };
    let state: unknown;
    try {
      state = this.status();
    } catch (because) {
      state = `cannot be described: ${because instanceof Error ? because.message : String(because)}`;
    }
    this.logger.error('replica.failed', { replica: this.id, ...described, state });
    void this.close();
  }

  /**
   * A start from this disk would again serve data that is not the cluster's. With `memory` the data is gone with the
   * process.
   */
  private mark(code: ErrorCode, message: string): void {
    try {
      markDiverged(this.data!, code, message);
    } catch (failed) {
      this.logger.error('replica.not-marked', {
        replica: this.id,
        error: failed instanceof Error ? failed.message : String(failed),
        next: 'do not start this replica again with this data directory',
      });
    }
  }

  /** Releases everything, even if some of it fails: a port or lock that stayed taken would outlive the replica. */
  private async releaseAll(): Promise<void> {
    await undefined; // `closing` is set first: later failures see it
    if (this.running) this.logger.info('replica.closing', { replica: this.id, ...transitionState(this.core) });
    this.running = false;
    // An open turn has changed the log in memory. It ends here, so that the storage has one consistent state.
    if (this.failure === undefined)
      this.loop.turn((now) => {
        this.watchService.close();
        this.core.finish(now);
      });
    const steps = [
      () => this.loop.close(),
      () => this.storage.close(),
      () => this.lock?.release(),
      () => this.clock.close(),
    ];
    for (const step of steps) {
      try {
        await step();
      } catch (error) {
        this.logger.warn('replica.close-failed', {
          replica: this.id,
          error: error instanceof Error ? error.message : String(error),
        });
      }
    }
  }
}
