/// <reference lib="esnext.disposable" preserve="true" />
/**
 * Asks replicas who the members of their cluster are, for `jitpaxos member list`: see inquiry.ts. Each says what it
 * knows; whether they agree is for the caller to judge.
 */
import type { Cluster } from '../host/cluster-config.js';
import { loadHash } from '../native/hash64.js';
import { begin } from '../wire/layout.js';
import {
  decodeMemberList,
  EPOCHS_BYTES,
  listDigest,
  MEMBER_LIST_BYTES_MAX,
  type MemberList,
} from '../wire/member-list.js';
import { AskMembers, Members } from '../wire/messages.js';
import { readI32, readU16, writeI32, writeU16 } from '../wire/u64.js';
import { Inquiry, type Answered, type InquiryOptions, type Question } from './inquiry.js';

/** What one replica says. */
export interface KnownMembers {
  /** Its own view. */
  readonly view: number;
  readonly list: MemberList;
}

/** The digest that stands for a list from its beginning. No list has it. */
const NEWEST = 0;

const hash = loadHash();

export const MEMBERS_QUESTION: Question<KnownMembers> = {
  askBytes: AskMembers.size,
  answerType: Members.type,
  answerBytes: Members.size,
  nonceInQuestion: AskMembers.at.nonce,
  nonceInAnswer: Members.at.nonce,
  bytesMax: MEMBER_LIST_BYTES_MAX,
  newest: NEWEST,
  write(bytes, o, edition, offset, padding): void {
    begin(AskMembers, bytes, o);
    writeI32(bytes, o + AskMembers.at.digest, edition);
    writeU16(bytes, o + AskMembers.at.offset, offset);
    writeU16(bytes, o + AskMembers.at.padding, padding);
  },
  readPiece: (bytes, o) => ({
    edition: readI32(bytes, o + Members.at.digest),
    wanted: readU16(bytes, o + Members.at.length),
    offset: readU16(bytes, o + Members.at.offset),
    length: readU16(bytes, o + Members.at.list),
  }),
  decode(whole, head) {
    const bytes = new Uint8Array(EPOCHS_BYTES + whole.length);
    writeI32(bytes, 0, readI32(head, Members.at.epochs));
    bytes.set(whole, EPOCHS_BYTES);
    // Pieces of two lists that happen to have one digest, or a replica that lies: neither is a list.
    if (listDigest(bytes, hash) !== readI32(head, Members.at.digest)) return undefined;
    const list = decodeMemberList(bytes);
    return list === undefined ? undefined : { view: readI32(head, Members.at.view), list };
  },
};

export class MembersClient {
  /** The cluster file, checked. */
  readonly cluster: Cluster;

  private constructor(private readonly inquiry: Inquiry<KnownMembers>) {
    this.cluster = inquiry.cluster;
  }

  /** Opens sockets; asks nothing yet. Throws the errors of `Inquiry.open`. */
  static async open(options: InquiryOptions): Promise<MembersClient> {
    return new MembersClient(await Inquiry.open('MembersClient', options, MEMBERS_QUESTION));
  }

  /** Asks every replica of the cluster file: see `Inquiry.ask`, whose errors it throws. */
  ask(timeoutMs: number, isEnough?: (answer: KnownMembers) => boolean): Promise<readonly Answered<KnownMembers>[]> {
    return this.inquiry.ask(timeoutMs, isEnough);
  }

  close(): Promise<void> {
    return this.inquiry.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}
