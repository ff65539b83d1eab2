/**
 * Answers AskMembers for a replica, beside its core: who the members of the cluster are, as this replica knows.
 *
 * The rule: a question costs a replica little, and gains a stranger nothing. An answer is never longer than its
 * question, nor than a datagram: a long list is given in pieces. A piece names the digest of its list, so the replica
 * keeps nothing for the one who asks, and pieces of two lists are not put together. Beyond a rate questions are not
 * answered (members-rates.ts).
 */
import type { Instant, Outbox } from '../protocol/contract.js';
import { DEFAULT_DATAGRAM_BYTES, ENVELOPE_BYTES_MAX, type Hash64 } from '../wire/envelope.js';
import { begin } from '../wire/layout.js';
import { EPOCHS_BYTES, encodeMemberList, listDigest, type MemberList } from '../wire/member-list.js';
import { AskMembers, Members } from '../wire/messages.js';
import { readI32, readU16, writeI32, writeU16 } from '../wire/u64.js';
import { Asker, MembersRates, type AskerCode } from './members-rates.js';

const NOTHING = new Uint8Array(0);

export class MembersService {
  answered = 0;
  /** Questions beyond the rate or too short for any answer, and answers for which there was no room. */
  refused = 0;

  private readonly rates = new MembersRates();
  private readonly forTools = new EncodedList();
  private readonly forHosts = new EncodedList();

  /**
   * @param members the list as it is now, for hosts or for clients and tools; the same object until it changes
   * @param view of this replica
   */
  constructor(
    private readonly members: (forHosts: boolean) => MemberList,
    private readonly view: () => number,
    private readonly outbox: Outbox,
    private readonly hash: Hash64,
    /** No answer makes a longer datagram. */
    private readonly datagramBytes = DEFAULT_DATAGRAM_BYTES,
  ) {}

  /**
   * Takes one AskMembers message that passed `validate`.
   * @param owner of its key
   * @param asker who asks
   */
  onAskMembers(bytes: Uint8Array, o: number, from: number, now: Instant, owner: number, asker: AskerCode): void {
    const room = AskMembers.size + readU16(bytes, o + AskMembers.at.padding) - Members.size;
    if (room < 0 || !this.rates.admits(owner, from, asker, now)) {
      this.refused++;
      return;
    }
    const isHost = asker === Asker.host || asker === Asker.unlistedHost;
    const encoded = isHost ? this.forHosts : this.forTools;
    encoded.refresh(this.members(isHost), this.hash);
    const list = encoded.bytes.subarray(EPOCHS_BYTES);
    const isKnown = readI32(bytes, o + AskMembers.at.digest) === encoded.digest;
    const offset = isKnown ? Math.min(readU16(bytes, o + AskMembers.at.offset), list.length) : 0;
    const length = Math.min(list.length - offset, room, this.datagramBytes - ENVELOPE_BYTES_MAX - Members.size);
    const { outbox } = this;
    const at = outbox.reserve(from, Members.size + length);
    if (at < 0) {
      this.refused++;
      return;
    }
    const target = outbox.bytes;
    begin(Members, target, at);
    writeI32(target, at + Members.at.view, this.view());
    writeI32(target, at + Members.at.nonce, readI32(bytes, o + AskMembers.at.nonce));
    writeI32(target, at + Members.at.nonce + 4, readI32(bytes, o + AskMembers.at.nonce + 4));
    writeI32(target, at + Members.at.epochs, readI32(encoded.bytes, 0));
    writeI32(target, at + Members.at.digest, encoded.digest);
    writeU16(target, at + Members.at.length, list.length);
    writeU16(target, at + Members.at.offset, offset);
    writeU16(target, at + Members.at.list, length);
    target.set(list.subarray(offset, offset + length), at + Members.size);
    outbox.commit(Members.size + length);
    this.answered++;
  }
}

class EncodedList {
  bytes: Uint8Array = NOTHING;
  digest = 0;
  private of: MemberList | undefined;

  refresh(members: MemberList, hash: Hash64): void {
    if (members === this.of) return;
    this.of = members;
    this.bytes = encodeMemberList(members);
    this.digest = listDigest(this.bytes, hash);
  }
}
