/**
 * Answers Status for a replica, beside its core: the core never sees the message, and a report is built off the fast
 * path.
 *
 * The rule: a question costs a replica little, and gains a stranger nothing. An answer is never longer than its
 * question (wire/messages.ts), nor than a datagram: a report is given in pieces. One report serves all questions within
 * some milliseconds, and beyond a rate questions are not answered (status-rates.ts). If a report cannot be made, the
 * questioner gets no answer, and the replica is not harmed.
 */
import type { Instant, Outbox } from '../protocol/contract.js';
import { DEFAULT_DATAGRAM_BYTES, ENVELOPE_BYTES_MAX } from '../wire/envelope.js';
import { begin } from '../wire/layout.js';
import { Status, StatusReply } from '../wire/messages.js';
import { readI32, readU16, writeI32, writeU16 } from '../wire/u64.js';
import { encodeReport } from '../host/status-codec.js';
import type { ReplicaStatusReport } from '../host/status.js';
import { StatusRates } from './status-rates.js';

/** A report older than this is built again. */
const FRESH_US = 20_000;
/**
 * The same for one who has not proven an address: such questions may be recordings, and building a report takes fifty
 * times as long as refusing a question. A tool's first question may be among them.
 */
const FRESH_UNPROVEN_US = 100_000;
/** Reports that are kept, so that all pieces sent to one questioner come from the same report. */
const KEPT = 8;
/** The value of Status.serial that asks for the first piece of a new report. Reports have larger numbers. */
const NEWEST = 1;

interface Kept {
  readonly serial: number;
  readonly bytes: Uint8Array;
  readonly view: number;
}

const NOTHING = new Uint8Array(0);

export class StatusService<Report extends { readonly view: number } = ReplicaStatusReport> {
  answered = 0;
  /** Questions beyond the rate, answers for which there was no room, and reports that could not be made. */
  refused = 0;

  private readonly kept: Kept[] = [];
  private newest: Kept = { serial: NEWEST, bytes: NOTHING, view: 0 };
  /** Starts at a random number in each life, so that pieces of two lives are not taken for one report. */
  private serial = crypto.getRandomValues(new Uint32Array(1))[0]!;
  private builtAtUs = -Infinity;
  private readonly rates = new StatusRates();

  constructor(
    private readonly describe: () => Report,
    private readonly outbox: Outbox,
    private readonly failed: (error: string) => void = () => undefined,
    /** No answer in pieces makes a longer datagram. */
    private readonly datagramBytes = DEFAULT_DATAGRAM_BYTES,
    private readonly encode = encodeReport as unknown as (report: Report) => Uint8Array,
  ) {}

  /**
   * Takes one Status message that passed `validate`.
   * @param owner of its key
   * @param proven its endpoint has proven its address, under a key of this owner
   */
  onStatus(bytes: Uint8Array, o: number, from: number, now: Instant, owner: number, proven: boolean): void {
    if (!this.rates.admits(owner, from, proven, now)) {
      this.refused++;
      return;
    }
    const asked = readI32(bytes, o + Status.at.serial) >>> 0;
    const known = asked > NEWEST ? this.kept.find(({ serial }) => serial === asked) : undefined;
    const report = known ?? this.fresh(now.monotonicUs, proven ? FRESH_US : FRESH_UNPROVEN_US);
    if (report.bytes.length === 0) {
      this.refused++;
      return;
    }
    const room = readU16(bytes, o + Status.at.padding);
    const offset = known === undefined ? 0 : Math.min(readI32(bytes, o + Status.at.offset) >>> 0, report.bytes.length);
    const left = report.bytes.length - offset;
    const length = Math.min(left, room, this.datagramBytes - ENVELOPE_BYTES_MAX - StatusReply.size);
    const { outbox } = this;
    const at = outbox.reserve(from, StatusReply.size + length);
    if (at < 0) {
      this.refused++;
      return;
    }
    const target = outbox.bytes;
    begin(StatusReply, target, at);
    writeI32(target, at + StatusReply.at.view, report.view);
    writeI32(target, at + StatusReply.at.nonce, readI32(bytes, o + Status.at.nonce));
    writeI32(target, at + StatusReply.at.nonce + 4, readI32(bytes, o + Status.at.nonce + 4));
    writeI32(target, at + StatusReply.at.length, report.bytes.length);
    writeI32(target, at + StatusReply.at.serial, report.serial);
    writeI32(target, at + StatusReply.at.offset, offset);
    writeU16(target, at + StatusReply.at.report, length);
    target.set(report.bytes.subarray(offset, offset + length), at + StatusReply.size);
    outbox.commit(StatusReply.size + length);
    this.answered++;
  }

  private fresh(nowUs: number, freshUs: number): Kept {
    if (nowUs - this.builtAtUs < freshUs) return this.newest;
    this.builtAtUs = nowUs;
    this.serial = this.serial >= 0xffffffff ? NEWEST + 1 : Math.max(NEWEST, this.serial) + 1;
    try {
      const described = this.describe();
      this.newest = { serial: this.serial, bytes: this.encode(described), view: described.view };
      this.kept.push(this.newest);
      if (this.kept.length > KEPT) this.kept.shift();
    } catch (error) {
      this.newest = { serial: this.serial, bytes: NOTHING, view: 0 };
      this.failed(error instanceof Error ? error.message : String(error));
    }
    return this.newest;
  }
}
