/**
 * Reads the messages of a received datagram. The rule: whatever the bytes are, nothing throws, nothing is read beyond
 * their end, and each refusal is counted by its reason.
 */
import {
  CLIENT_SENDER,
  DROP_REASON_NAMES,
  OUTDATED,
  SENDER_REFUSED,
  UNPROVEN,
  type Envelope,
  type Keyring,
} from '../wire/envelope.js';
import { AskMembers, isConfiguring, isReadOnly, Members, Proof, typeOf, validate } from '../wire/messages.js';
import type { Peers } from '../wire/peers.js';
import { Translator } from '../wire/translation.js';
import { WIRE_VERSION } from '../wire/versions.js';
import type { Transport } from './transport.js';

/** The consumer of a message: a core's `receive`, to which the driver adds the time. */
export type MessageHandler = (bytes: Uint8Array, offset: number, length: number, from: number, owner: number) => void;

const ROLE_REFUSED = DROP_REASON_NAMES.indexOf('role');

export class DatagramReader {
  /** Datagrams refused, or cut at the first bad message, by index of DROP_REASON_NAMES. */
  readonly drops = new Float64Array(DROP_REASON_NAMES.length);

  /** Datagrams read that were written in the previous version: of replicas, and of clients. */
  readonly previous = new Float64Array(2);

  /** Who speaks only versions before this one is not heard, and gets no answer (wire/versions.ts). */
  oldestSpeaker = 0;

  /** The message that is being handled is from a host that is not listed. */
  isUnlisted = false;

  private readonly translator = new Translator();

  /**
   * @param acceptClients false for a client: it accepts replicas only
   * @param handle called for each message that passed `validate`; `from` is a replica's index or the sender's endpoint,
   * `owner` is the owner of its key, 0 without keys. Its errors are passed on
   * @param peers learns from each authentic datagram
   * @param ring undefined in a cluster without keys
   * @param hello called with the endpoint of a client that says hello (peer-versions.ts)
   * @param challenge called for a datagram under another key than its endpoint's (peers.ts)
   * @param replicaHeard called for each datagram of a replica that the transport is handing over
   * @param unlistedHeard called for each datagram of a host that is not listed, with its id and its endpoint. Of its
   * messages only those that ask or say who the members are will be handled
   * @param mayNotConfigure called for a Request that asks for a change of the members, under a client's key that may not.
   * It is not handled; without this function it is dropped
   */
  constructor(
    private readonly envelope: Envelope,
    private readonly transport: Pick<Transport, 'sender'>,
    private readonly acceptClients: boolean,
    private readonly handle: MessageHandler,
    private readonly peers: Pick<Peers, 'heard'>,
    private readonly ring?: Pick<Keyring, 'mayWrite' | 'mayConfigure' | 'ownerOf'>,
    private readonly hello?: (endpoint: number) => void,
    private readonly challenge?: (endpoint: number, key: number, newest: number) => void,
    private readonly replicaHeard?: (replica: number) => void,
    private readonly unlistedHeard?: (id: number, endpoint: number, length: number) => void,
    private readonly mayNotConfigure?: (bytes: Uint8Array, offset: number, from: number) => void,
  ) {}

  /**
   * Reads one datagram and returns how many messages it held; 1 for one that a Challenge answers. Everything after a bad
   * message is dropped.
   * @param client endpoint of the sender, if the transport is not handing over this datagram now; a replica's datagram
   * is then refused
   */
  read(bytes: Uint8Array, offset: number, length: number, client = -1): number {
    const sender = this.envelope.open(bytes, offset, length);
    if (sender < 0)
      return sender === -SENDER_REFUSED ? this.readUnlisted(bytes, offset, length, client) : this.drop(-sender, 0);
    let from = sender; // the envelope names the replica, not the address: a host may have several addresses
    if (sender === CLIENT_SENDER) {
      if (!this.acceptClients) return this.drop(SENDER_REFUSED, 0);
      from = client < 0 ? this.transport.sender() : client;
    } else if (client < 0) this.replicaHeard?.(sender);
    const { ring } = this;
    const { openedKey, openedVersion, openedNewest, openedBytes } = this.envelope;
    if (openedNewest < this.oldestSpeaker) return this.drop(OUTDATED, 0);
    const mayWrite = ring === undefined || ring.mayWrite(openedKey);
    const mayConfigure = ring === undefined || ring.mayConfigure(openedKey);
    const owner = ring === undefined ? 0 : ring.ownerOf(openedKey);
    if (!this.peers.heard(from, openedKey, openedNewest, length))
      return this.readProofs(bytes, offset, length, from, owner);
    if (length === openedBytes && sender === CLIENT_SENDER) this.hello?.(from);
    const end = offset + length;
    if (openedVersion !== WIRE_VERSION) {
      this.previous[sender === CLIENT_SENDER ? 1 : 0]!++;
      return this.readPrevious(bytes, offset + openedBytes, end, from, owner, mayWrite, mayConfigure);
    }
    let messages = 0;
    for (let at = offset + openedBytes; at < end; messages++) {
      const messageLength = validate(bytes, at, end);
      if (messageLength < 0) return this.drop(-messageLength, messages);
      if (!mayWrite && !isReadOnly(bytes, at)) return this.drop(ROLE_REFUSED, messages);
      if (!mayConfigure && isConfiguring(bytes, at)) {
        if (this.mayNotConfigure === undefined) return this.drop(ROLE_REFUSED, messages);
        this.mayNotConfigure(bytes, at, from);
        at += messageLength;
        continue;
      }
      // Who the members are is a word of hosts. Other messages of hosts name the one that they are from.
      if (sender === CLIENT_SENDER && typeOf(bytes, at) === Members.type) return this.drop(ROLE_REFUSED, messages);
      this.handle(bytes, at, messageLength, from, owner);
      at += messageLength;
    }
    return messages;
  }

  /**
   * A host that is not listed here: it was, or will be, or is listed already and this process does not know it yet. It
   * asks who the members are, or says so; nothing else of it is handled.
   */
  private readUnlisted(bytes: Uint8Array, offset: number, length: number, client: number): number {
    const { translator, envelope } = this;
    this.drops[SENDER_REFUSED]!++;
    if (this.unlistedHeard === undefined || client >= 0) return 0;
    const { openedKey, openedNewest, openedBytes } = envelope;
    if (openedNewest < this.oldestSpeaker) return this.drop(OUTDATED, 0);
    const from = this.transport.sender();
    if (!this.peers.heard(from, openedKey, openedNewest, length)) return 0;
    const owner = this.ring === undefined ? 0 : this.ring.ownerOf(openedKey);
    this.unlistedHeard(envelope.openedId, from, length);
    const present = envelope.openedVersion === WIRE_VERSION;
    const end = offset + length;
    for (let at = offset + openedBytes; at < end; ) {
      const messageLength = present ? validate(bytes, at, end) : translator.read(bytes, at, end);
      if (messageLength < 0) return this.drop(-messageLength, 0);
      const type = present ? typeOf(bytes, at) : typeOf(translator.bytes, translator.offset);
      if (type === AskMembers.type || type === Members.type) {
        this.isUnlisted = true;
        if (present) this.handle(bytes, at, messageLength, from, owner);
        else this.handle(translator.bytes, translator.offset, translator.length, from, owner);
        this.isUnlisted = false;
      }
      at += messageLength;
    }
    return 1;
  }

  /** Handles the Proofs of a datagram under another key than its endpoint's, and drops its other messages. */
  private readProofs(bytes: Uint8Array, offset: number, length: number, from: number, owner: number): number {
    const { translator, envelope, peers } = this;
    const { openedKey, openedNewest, openedBytes } = envelope;
    const present = envelope.openedVersion === WIRE_VERSION;
    const end = offset + length;
    for (let at = offset + openedBytes; at < end; ) {
      const messageLength = present ? validate(bytes, at, end) : translator.read(bytes, at, end);
      if (messageLength < 0) return this.drop(-messageLength, 0);
      if (present && typeOf(bytes, at) === Proof.type) this.handle(bytes, at, messageLength, from, owner);
      else if (!present && typeOf(translator.bytes, translator.offset) === Proof.type)
        this.handle(translator.bytes, translator.offset, translator.length, from, owner);
      at += messageLength;
    }
    if (peers.heard(from, openedKey, openedNewest, length)) return 1; // proven: the key is now the endpoint's
    if (length > openedBytes) this.drops[UNPROVEN]!++;
    this.challenge?.(from, openedKey, openedNewest);
    return 1;
  }

  /** Converts the messages of a previous-version datagram to their current form. */
  private readPrevious(
    bytes: Uint8Array,
    offset: number,
    end: number,
    from: number,
    owner: number,
    mayWrite: boolean,
    mayConfigure: boolean,
  ): number {
    const { translator } = this;
    let messages = 0;
    for (let at = offset; at < end; messages++) {
      const messageLength = translator.read(bytes, at, end);
      if (messageLength < 0) return this.drop(-messageLength, messages);
      const { bytes: message, offset: o } = translator;
      if (!mayWrite && !isReadOnly(message, o)) return this.drop(ROLE_REFUSED, messages);
      at += messageLength;
      if (!mayConfigure && isConfiguring(message, o)) {
        if (this.mayNotConfigure === undefined) return this.drop(ROLE_REFUSED, messages);
        this.mayNotConfigure(message, o, from);
      } else this.handle(translator.bytes, translator.offset, translator.length, from, owner);
    }
    return messages;
  }

  private drop(reason: number, messages: number): number {
    this.drops[reason]!++;
    return messages;
  }
}
