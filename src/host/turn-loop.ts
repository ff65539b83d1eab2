/**
 * Drives a core: datagrams, timers and time go in, datagrams come out. Replica and client hosts are built on it.
 *
 * A turn handles what arrived together, and its messages to one destination leave together. A transport that receives
 * many datagrams at once tells where a turn ends: after a batch, and once more after the application's reaction to it.
 * With a transport that hands over datagrams one by one, a turn is a single datagram, or everything from one pass of
 * the event loop. A turn that the application or a timer began ends in the loop's check phase.
 *
 * The rule: a core that threw is never called again.
 */
import { DOUBLE_ZERO } from '../protocol/double-zero.js';
import type { Clock } from '../clock/clock.js';
import { JitPaxosError } from '../errors.js';
import type { Hash64 } from '../native/hash64.js';
import { loadSipHash, SIP_SECRET_BYTES } from '../native/siphash.js';
import type { Instant } from '../protocol/contract.js';
import { writeProof } from '../wire/address-proofs.js';
import { DatagramOutbox } from '../transport/datagram-outbox.js';
import { FairQueue } from '../transport/fair-queue.js';
import { LONG_BYTES, STRANGERS, StrangersShare } from './strangers-share.js';
import { DatagramReader } from '../transport/datagram-reader.js';
import { datagramBytesFor } from '../transport/datagram-bytes.js';
import {
  DEFAULT_TRANSPORT,
  NOWHERE,
  REPLICA_ADDRESS,
  STRANGER,
  TransportCounter,
  type Address,
  type IdleStrategy,
  type Notice,
  type Transport,
  type ListenFrom,
} from '../transport/transport.js';
import {
  CLIENT_SENDER,
  CROWDED,
  DATAGRAM_BYTES_MIN,
  DROP_REASON_NAMES,
  ENCRYPTED_VERSION,
  Envelope,
  MAX_DATAGRAM_BYTES,
} from '../wire/envelope.js';
import { HOST_PLACES, PLACES } from '../wire/host-ids.js';
import { kernelFilter } from '../wire/kernel-filter.js';
import { Peers } from '../wire/peers.js';
import { Challenge, Proof, typeOf, type TypesFor } from '../wire/messages.js';
import { PREVIOUS_WIRE_VERSION, WIRE_VERSION } from '../wire/versions.js';
import type { Silence } from '../transport/silence.js';
import type { AddressBook } from './address-book.js';
import type { Cluster, HostAndPort } from './cluster-config.js';
import { forgedReport, type Keyring } from './keyring.js';
import { Now } from './now.js';
import { checkInteger } from './options.js';
import { createTransport, type TransportKind } from './transport-choice.js';
import { WakeTimer } from './wake-timer.js';

/** What a turn loop needs from a core, or from the host around it. */
export interface Driven {
  /** `owner`: the owner of the key it came under, 0 without keys. */
  receive(bytes: Uint8Array, offset: number, length: number, from: number, now: Instant, owner: number): void;
  /**
   * Called instead of `receive` for a message of a client that has sent more than its share: answers that the client is
   * too fast.
   */
  refuse?(bytes: Uint8Array, offset: number, from: number, now: Instant): void;
  /** Called instead of `receive` for a Request whose sender's key does not allow it: answers that it is a bad one. */
  refuseRole?(bytes: Uint8Array, offset: number, from: number, now: Instant): void;
  tick(now: Instant): void;
  /** A replica's operating system reports that no process listens there. */
  unreachable(replica: number, now: Instant): void;
  /**
   * A datagram of `length` bytes came from a host that is not listed. Only during this call: `placeStranger`.
   * @param id of the host
   * @param endpoint of its address
   */
  unlisted?(id: number, endpoint: number, length: number, now: Instant): void;
  /** Last call of a turn; what it writes to the outbox still leaves in this turn. */
  endTurn(now: Instant): void;
  /**
   * Writes the time of the next `tick` to `out[0]`: monotonic µs, Infinity if nothing is due. Not a return value, which
   * would be a number on the heap.
   */
  writeWakeUs(out: Float64Array): void;
  /** `tick` is called at the latest after this time, µs; Infinity for a core that does not need that. */
  readonly longestQuietUs: number;
}

export interface TurnLoopOptions {
  readonly cluster: Cluster;
  /** The hosts' addresses, by slot; the loop watches the book from `start` on, and closes it. */
  readonly book: AddressBook;
  /** The hosts' ids, by slot; −1: there is none. Default: those of the cluster file, ids and slots being the same. */
  readonly ids?: readonly number[];
  /** Where a replica listens. Default: at its address. */
  readonly listen?: Address | undefined;
  /** What that address was taken from. Default: the cluster file. */
  readonly listenFrom?: ListenFrom;
  /** This host's id, or CLIENT_SENDER. */
  readonly sender: number;
  /** This host's slot. Default: its id, as in a cluster whose members never changed. */
  readonly slot?: number;
  readonly transport: TransportKind | undefined;
  /** Default `adaptive`, if the transport has a choice. */
  readonly idle: IdleStrategy | undefined;
  /** Longest datagram in bytes. Default: the cluster file's value, else see datagramBytesFor. */
  readonly datagramBytes: number | undefined;
  /** Undefined in a cluster without authentication. */
  readonly keys: Keyring | undefined;
  /** The newest wire version in which this process writes. Default WIRE_VERSION. */
  readonly wireVersion: number | undefined;
  readonly clock: Clock;
  readonly hash: Hash64;
  readonly notice: Notice;
  /** The core or the transport threw; the loop has stopped. */
  readonly failed: (error: unknown) => void;
}

/** A client answers replicas only, and these have endpoints of their own. Others are hosts that it does not know yet. */
const CLIENT_ENDPOINTS = 1;
/** Where a host that spoke and is not listed is written to, if the loop was told to. */
export const STRANGE_HOST = PLACES - 1;

/**
 * A datagram that arrives alone ends its turn at once: going through the check phase would delay its answer by some
 * microseconds. If more than this many arrive within BURST_US, the turn stays open until all are handled, and answers
 * share datagrams.
 */
const BURST_DATAGRAMS = 2;
const BURST_US = 20;

/**
 * Both the native transport and libuv take 32 datagrams at once, or more if some arrived as one. A batch or pass of
 * this size is full: more may be waiting. After CROWD_DATAGRAMS in consecutive full batches, which is more than a
 * client with a few hundred open operations sends at a time, clients' datagrams go through a FairQueue until it is
 * empty again.
 */
const FULL_DATAGRAMS = 32;
const CROWD_DATAGRAMS = 128;
/** For a transport without batches: with this many in one pass, it pays to find out where the pass ends. */
const PASS_DATAGRAMS = 8;
/**
 * Datagrams of the queue that are handled before the socket is read again. dgram reads fewer at a time, one by one.
 * With batches, as many short ones of clients that send little may pass by the queue meanwhile. A transport without batches
 * reads hardly more than that between two looks, and its socket has to be emptied faster than datagrams are handled.
 */
const QUEUE_TURN = { batches: 64, single: 24 } as const;
const QUEUE_PASSES = { batches: QUEUE_TURN.batches, single: 0 } as const;
const QUEUE_BYTES = 4 << 20;

/**
 * Messages of one batch that share a turn, rounded to whole datagrams: answers to the first need not wait for the last.
 */
const TURN_MESSAGES = 256;
/** The clock is read again only after this many messages. */
const FRESH_MESSAGES = 48;

export class TurnLoop {
  readonly transport: Transport;
  readonly outbox: DatagramOutbox;
  /** Longest datagram. */
  readonly datagramBytes: number;
  readonly reader: DatagramReader;
  readonly peers: Peers;
  readonly timer = new WakeTimer(() => this.onWake());

  /** When the operating system of each replica last reported that no process listens there, monotonic µs. */
  private readonly refusedUs: Float64Array;
  private readonly book: AddressBook;
  private readonly sender: number;
  private readonly slot: number;
  /** By slot: the id of the host; −1: there is none. */
  private readonly hosts = new Int32Array(HOST_PLACES).fill(-1);
  private readonly notice: Notice;
  private readonly now: Now;
  private readonly wake = new Float64Array(1);
  private readonly failed: (error: unknown) => void;
  private driven: Driven | undefined;
  private turnOpen = false;
  /** A datagram is being handled. */
  private handling = false;
  /** When the current burst of datagrams began, and how many of them ended their own turn. */
  private burstUs = DOUBLE_ZERO;
  private burst = 0;
  private stopped = false;
  /** Waiting client datagrams; undefined at a client. */
  private readonly queue: FairQueue | undefined;
  /** Datagrams in the current batch or pass, and in it together with the full ones right before. */
  private passDatagrams = 0;
  private crowd = 0;
  /** The queue is in use: from the moment of a crowd until the queue is empty and there is no crowd. */
  private crowded = false;
  private wasCrowd = false;
  private readonly strangers = new StrangersShare();
  /** Messages handled in the open turn of a batch. */
  private turnMessages = 0;
  /** Whether a refused client is told. Once for each look at the queue, since such answers cost as much as requests. */
  private mayRefuse = false;
  private refusing = false;
  private readonly keys: Keyring | undefined;
  private readonly envelope: Envelope;

  /** Throws JitPaxosError `option-invalid`. */
  constructor(options: TurnLoopOptions) {
    const { cluster, sender } = options;
    const { addresses } = options.book;
    this.book = options.book;
    this.notice = options.notice;
    this.sender = sender;
    this.slot = options.slot ?? sender;
    const ids = options.ids ?? addresses.map((_, id) => id);
    this.hosts.set(ids);
    this.refusedUs = new Float64Array(PLACES).fill(NaN); // never
    const isClient = sender === CLIENT_SENDER;
    const datagramBytes = checkInteger(
      'option-invalid',
      'datagramBytes',
      options.datagramBytes ?? cluster.datagramBytes ?? datagramBytesFor(addresses),
      DATAGRAM_BYTES_MIN,
      MAX_DATAGRAM_BYTES,
    );
    this.datagramBytes = datagramBytes;
    const wireVersion = checkInteger(
      'option-invalid',
      'wireVersion',
      options.wireVersion ?? WIRE_VERSION,
      PREVIOUS_WIRE_VERSION,
      WIRE_VERSION,
    );
    const oldest = oldestRead(cluster, wireVersion);
    const { idHi, idLo } = cluster;
    this.transport = createTransport(options.transport, options.idle, {
      ...DEFAULT_TRANSPORT,
      endpoints: isClient ? CLIENT_ENDPOINTS : DEFAULT_TRANSPORT.endpoints,
      replicas: addresses,
      places: PLACES,
      hosts: HOST_PLACES,
      listen: isClient ? undefined : (options.listen ?? addresses[this.slot]),
      listenFrom: options.listenFrom,
      receive: (bytes, offset, length) => this.onDatagram(bytes, offset, length),
      batchEnd: () => this.onBatchEnd(),
      unreachable: (replicas) => this.onUnreachable(replicas),
      notice: options.notice,
      datagramBytes,
      filter: isClient
        ? undefined
        : kernelFilter({
            clusterHi: idHi,
            clusterLo: idLo,
            oldest: oldest === PREVIOUS_WIRE_VERSION ? oldest - 1 : oldest, // the hello of a process of that version
            newest: WIRE_VERSION, // which it reads even if it is held back
            keyed: options.keys !== undefined,
          }),
      strangers: isClient ? undefined : STRANGERS,
    });
    const { keys } = options;
    this.keys = keys;
    if (this.transport.memory !== undefined) keys?.useMemory(this.transport.memory);
    const endpoints = isClient ? CLIENT_ENDPOINTS : DEFAULT_TRANSPORT.endpoints;
    this.now = new Now(options.clock);
    const { instant } = this.now;
    this.peers = new Peers({
      self: isClient ? CLIENT_SENDER : this.slot,
      replicas: PLACES,
      endpoints,
      newest: wireVersion,
      oldest,
      now: instant,
      keys,
      numbers: loadSipHash(crypto.getRandomValues(new Uint8Array(SIP_SECRET_BYTES))),
    });
    const envelope = new Envelope(options.hash, idHi, idLo, sender, 0, keys, wireVersion, oldest);
    ids.forEach((id, slot) => {
      if (id >= 0) envelope.ids.list(id, slot);
    });
    this.envelope = envelope;
    this.outbox = new DatagramOutbox(this.transport, envelope, datagramBytes, this.peers);
    this.failed = options.failed;
    const handle = (bytes: Uint8Array, offset: number, length: number, from: number, owner: number): void => {
      const known = typeOf(bytes, offset) as TypesFor<'turnLoop'>;
      switch (known) {
        case Proof.type:
          this.peers.prove(from, envelope.openedKey, bytes, offset); // at a replica: a client receives where it sends from
          return;
        case Challenge.type:
          this.onChallenge(bytes, offset, from);
          return;
        default:
          known satisfies never; // each message for the loop has its case; the others are for the host or its core
          if (this.refusing) this.driven!.refuse?.(bytes, offset, from, instant);
          else this.driven!.receive(bytes, offset, length, from, instant, owner);
      }
    };
    this.reader = new DatagramReader(
      envelope,
      this.transport,
      !isClient,
      handle,
      this.peers,
      keys,
      (endpoint) => this.outbox.hello(endpoint),
      (endpoint, key, newest) => this.outbox.challengeUnder(key, endpoint, newest),
      isClient
        ? undefined
        : (replica) => {
            if (this.transport.knownSender() === STRANGER) this.transport.noteReplica(replica);
          },
      (id, endpoint, datagramLength) => this.driven!.unlisted?.(id, endpoint, datagramLength, instant),
      isClient ? undefined : (bytes, offset, from) => this.driven!.refuseRole?.(bytes, offset, from, instant),
    );
    this.queue = isClient
      ? undefined
      : new FairQueue(
          PLACES,
          endpoints,
          datagramBytes,
          QUEUE_BYTES,
          this.transport.batches ? QUEUE_PASSES.batches : QUEUE_PASSES.single,
        );
  }

  /** From now on this host has the slot; undefined: no host has it. */
  place(slot: number, host: { readonly id: number; readonly at: HostAndPort } | undefined): void {
    if (this.stopped) return;
    const id = host?.id ?? -1;
    const before = this.hosts[slot]!;
    if (before !== id) {
      this.hosts[slot] = id;
      if (before >= 0) this.envelope.ids.unlist(before);
      if (id >= 0) this.envelope.ids.list(id, slot);
      this.peers.forget(slot);
      this.refusedUs[slot] = NaN;
    }
    this.book.place(slot, host?.at, id);
  }

  /** By slot: how often an earlier stream of its host spoke anew (two-lives.ts). */
  get streamReturns(): Float64Array {
    return this.envelope.streamReturns;
  }

  /** There is a host in that slot, other than this one. */
  isHost(slot: number): boolean {
    return this.hosts[slot]! >= 0 && slot !== this.slot;
  }

  /** What is sent to this place, which is no host's, goes there from now on. */
  address(place: number, at: HostAndPort | undefined): void {
    if (this.stopped) return;
    this.peers.forget(place);
    this.book.place(place, at);
  }

  /** What is sent to STRANGE_HOST goes to the sender of the current datagram. */
  placeStranger(): void {
    this.peers.forget(STRANGE_HOST);
    this.transport.placeSender(STRANGE_HOST);
  }

  /** What is sent to STRANGE_HOST goes nowhere. */
  forgetStranger(): void {
    this.readdress(STRANGE_HOST, NOWHERE);
  }

  private readdress(place: number, address: Address): void {
    if (!this.stopped) this.transport.readdress(place, address);
  }

  /** What is known about replicas that have been silent since then, monotonic µs. Allocates. */
  silence(silent: readonly number[], sinceUs: number): Silence {
    const { own } = this.keys ?? { own: -1 };
    return {
      silent,
      refused: silent.filter((replica) => this.refusedUs[replica]! >= sinceUs),
      tells: this.transport.kind === 'native',
      key: this.keys === undefined ? undefined : this.keys.idOf(own),
      dropped: Object.fromEntries(
        DROP_REASON_NAMES.flatMap((reason, index) =>
          index > 0 && this.reader.drops[index]! > 0 ? [[reason, this.reader.drops[index]!]] : [],
        ),
      ),
    };
  }

  /** Datagrams that were not authentic under the key that they named, by its id. Allocates. */
  forgedByKey(): Record<string, number> | null {
    return this.keys === undefined ? null : forgedReport(this.envelope.forged, this.keys);
  }

  /** The current moment as last read. */
  get instant(): Instant {
    return this.now.instant;
  }

  /** A replica's incarnation, before it sends anything: the salts of its encrypted streams hold it. */
  set incarnation(incarnation: number) {
    this.envelope.incarnation = incarnation;
  }

  /** Binds the sockets. Datagrams are ignored until `start`. Throws the errors of Transport.open. */
  open(): Promise<void> {
    return this.transport.open();
  }

  /** From now on `driven` is called. */
  start(driven: Driven): void {
    this.driven = driven;
    this.book.watch(this.peers, (place, address) => this.readdress(place, address), this.notice, this.slot);
  }

  /**
   * The current moment, for a call of the application; opens a turn. Always the same object. The effects of a datagram
   * happen at the datagram's time: reading two clocks again for each of its messages costs more than handling one.
   */
  enter(): Instant {
    if (this.handling) return this.now.instant;
    const instant = this.now.read();
    this.openTurn();
    return instant;
  }

  /** A turn for an event from outside the network: `body` calls the core, and the turn ends with it. */
  turn(body: (now: Instant) => void): void {
    if (this.stopped || this.driven === undefined) return;
    try {
      const instant = this.now.read();
      body(instant);
      this.endTurn(instant);
    } catch (error) {
      this.fail(error);
    }
  }

  /** Ends the open turn now. For hosts that must send something before they close. */
  endTurn(at?: Instant): void {
    this.turnOpen = false;
    this.turnMessages = 0;
    if (this.stopped || this.driven === undefined) return;
    try {
      const { driven } = this;
      const instant = at ?? this.now.read();
      driven.endTurn(instant);
      this.outbox.flush();
      driven.writeWakeUs(this.wake);
      const wakeUs = Math.min(this.wake[0]!, instant.monotonicUs + driven.longestQuietUs);
      if (wakeUs < this.timer.armedForUs) this.timer.arm(wakeUs, instant.monotonicUs);
    } catch (error) {
      this.fail(error);
    }
  }

  /** Nothing is called afterwards. */
  async close(): Promise<void> {
    this.stopped = true;
    this.book.close();
    this.timer.stop();
    await this.transport.close();
    this.keys?.close();
  }

  private onDatagram(bytes: Uint8Array, offset: number, length: number): void {
    if (this.stopped || this.driven === undefined) return;
    try {
      if (this.queue !== undefined && this.isCrowd() && this.enqueue(bytes, offset, length)) return;
      const instant = this.now.read();
      if (length > LONG_BYTES && this.queue !== undefined && this.isTooLong(length)) return;
      this.handling = true;
      const messages = this.reader.read(bytes, offset, length);
      this.handling = false;
      if (messages === 0) return;
      if (this.transport.batches) {
        this.turnOpen = true; // the end of the batch ends it
        if ((this.turnMessages += messages) >= TURN_MESSAGES) this.endTurn(instant);
        return;
      }
      if (this.turnOpen) return;
      if (instant.monotonicUs - this.burstUs > BURST_US) {
        this.burstUs = instant.monotonicUs;
        this.burst = 0;
      }
      if (++this.burst > BURST_DATAGRAMS) this.openTurn();
      else this.endTurn(instant);
    } catch (error) {
      this.fail(error);
    }
  }

  /** At a client: a replica asks for that proof. */
  private onChallenge(bytes: Uint8Array, offset: number, from: number): void {
    if (this.sender !== CLIENT_SENDER) return;
    const o = this.outbox.reserve(from, Proof.size);
    if (o >= 0) this.outbox.commit(writeProof(bytes, offset, this.outbox.bytes, o));
  }

  private onBatchEnd(): void {
    // For a few messages, the time at which the last datagram was read is as good as reading two clocks again.
    if (this.turnOpen)
      this.endTurn(this.turnMessages > 0 && this.turnMessages <= FRESH_MESSAGES ? this.now.instant : undefined);
    this.passEnded();
  }

  private isCrowd(): boolean {
    if (++this.passDatagrams === PASS_DATAGRAMS && !this.transport.batches) setImmediate(this.onPassEnd);
    if (++this.crowd >= CROWD_DATAGRAMS) this.wasCrowd = true;
    return this.wasCrowd || this.crowded;
  }

  private readonly onPassEnd = (): void => this.passEnded();

  private passEnded(): void {
    if (this.passDatagrams < FULL_DATAGRAMS) {
      this.crowd = 0;
      if (!this.crowded) this.wasCrowd = false; // none of its datagrams waited
    }
    this.passDatagrams = 0;
  }

  /**
   * True if the datagram waits in the queue, or was refused. Datagrams from addresses of replicas do neither, nor do those
   * of a client that sends little; those of strangers do not wait, since their senders are unknown until they have been
   * checked.
   */
  private enqueue(bytes: Uint8Array, offset: number, length: number): boolean {
    const endpoint = this.transport.knownSender();
    if (endpoint === REPLICA_ADDRESS) return false;
    if (endpoint === STRANGER) {
      if (this.strangers.take(length)) return false;
      this.reader.drops[CROWDED]!++;
      this.lookSoon();
      return true;
    }
    if (this.queue!.passes(endpoint, length)) {
      this.transport.counters[TransportCounter.datagrams_passed]!++;
      this.lookSoon();
      return false;
    }
    if (this.queue!.put(endpoint, bytes, offset, length)) this.transport.counters[TransportCounter.datagrams_queued]!++;
    else {
      this.reader.drops[CROWDED]!++;
      if (this.mayRefuse) {
        this.mayRefuse = false;
        this.now.read();
        this.refusing = true;
        this.reader.read(bytes, offset, length, endpoint);
        this.refusing = false;
      }
    }
    this.lookSoon();
    return true;
  }

  private lookSoon(): void {
    if (this.crowded) return;
    this.crowded = true;
    setImmediate(this.onQueue);
  }

  /** True if a long datagram was refused because strangers have sent too many bytes in such. */
  private isTooLong(length: number): boolean {
    if (this.transport.knownSender() !== STRANGER) return false;
    if (this.strangers.takeLong(length, this.now.instant.monotonicUs)) return false;
    this.reader.drops[CROWDED]!++;
    return true;
  }

  /** Handles part of the queue; the rest after the loop has read its sockets again. */
  private readonly onQueue = (): void => {
    if (this.stopped) return;
    const queue = this.queue!;
    try {
      this.mayRefuse = true;
      this.strangers.renew();
      queue.renew();
      for (
        let left = this.transport.batches ? QUEUE_TURN.batches : QUEUE_TURN.single;
        left > 0 && queue.take();
        left--
      ) {
        this.now.read();
        this.handling = true;
        this.reader.read(queue.bytes, 0, queue.length, queue.endpoint);
        this.handling = false;
        queue.release();
      }
    } catch (error) {
      this.fail(error);
      return;
    }
    this.endTurn();
    this.crowded = queue.size > 0 || this.wasCrowd;
    this.wasCrowd = false;
    if (this.crowded) setImmediate(this.onQueue);
  };

  /** `replicas`: one bit each. */
  private onUnreachable(replicas: number): void {
    this.turn((now) => {
      for (let replica = 0; replicas >>> replica !== 0; replica++)
        if (((replicas >>> replica) & 1) === 1) this.refusedUs[replica] = now.monotonicUs;
      for (let replica = 0; replicas >>> replica !== 0; replica++)
        if (((replicas >>> replica) & 1) === 1) this.driven!.unreachable(replica, now);
    });
  }

  private onWake(): void {
    if (this.stopped || this.driven === undefined) return;
    try {
      this.driven.tick(this.now.read());
    } catch (error) {
      this.fail(error);
      return;
    }
    this.endTurn();
  }

  /** The turn stays open until the loop has handed over everything that arrived: its answers share datagrams. */
  private openTurn(): void {
    // The effects of a datagram belong to its turn.
    if (this.turnOpen || this.handling) return;
    this.turnOpen = true;
    if (!this.transport.endBatchSoon()) setImmediate(this.onCheckPhase);
  }

  private readonly onCheckPhase = (): void => {
    if (this.turnOpen) this.endTurn();
  };

  private fail(error: unknown): void {
    this.stopped = true;
    this.timer.stop();
    this.failed(error);
  }
}

/**
 * The oldest version that a process reads and writes. Throws JitPaxosError `option-invalid` if the cluster requires
 * encryption and the process may not speak a version that has it.
 */
function oldestRead({ encryption }: Pick<Cluster, 'encryption'>, wireVersion: number): number {
  if (encryption !== 'required') return PREVIOUS_WIRE_VERSION;
  if (wireVersion >= ENCRYPTED_VERSION) return ENCRYPTED_VERSION;
  throw new JitPaxosError(
    'option-invalid',
    `the cluster file says "encryption": "required", and this process speaks wire version ${wireVersion} at most, which does not encrypt; ${
      wireVersion < WIRE_VERSION
        ? 'leave wireVersion (--wire-version) out, or take "encryption" out of the cluster file of every process first'
        : 'use a release that speaks version 5, or take "encryption" out of the cluster file of every process'
    }`,
  );
}
