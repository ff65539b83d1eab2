/**
 * Answers Status for a replica, beside its core: the core never sees the message, and a report is built off the fast path.
 *
 * The rule: asking costs a replica little, and gains a stranger nothing. An answer is never longer than its question
 * (wire/messages.ts), a report serves all who ask within some milliseconds, and beyond a rate nobody is answered. A
 * report that cannot be made costs its asker the answer, and the replica nothing.
 */
import type { Instant, Outbox } from '../protocol/contract.js';
import { begin } from '../wire/layout.js';
import { Status, StatusReply } from '../wire/messages.js';
import { readI32, readU16, writeI32, writeU16 } from '../wire/u64.js';
import { encodeReport } from './status-codec.js';
import type { ReplicaStatusReport } from './status.js';

/** A report is built anew when the last one is older than this. */
const FRESH_US = 20_000;
/** Answers at once, and a second. */
const BURST = 50;
const PER_SECOND = 200;

const NOTHING = new Uint8Array(0);

export class StatusService {
  answered = 0;
  /** Questions beyond the rate, answers that found no room, and reports that could not be made. */
  refused = 0;

  private report: Uint8Array = NOTHING;
  private view = 0;
  private builtAtUs = -Infinity;
  private tokens = BURST;
  private refilledAtUs = 0.5;

  constructor(
    private readonly describe: () => ReplicaStatusReport,
    private readonly outbox: Outbox,
    private readonly failed: (error: string) => void = () => undefined,
  ) {}

  /** Takes one Status message that passed `validate`. */
  onStatus(bytes: Uint8Array, o: number, from: number, now: Instant): void {
    if (!this.takeToken(now.monotonicUs)) {
      this.refused++;
      return;
    }
    const report = this.fresh(now.monotonicUs);
    if (report.length === 0) {
      this.refused++;
      return;
    }
    const fits = report.length <= readU16(bytes, o + Status.at.padding);
    const length = fits ? report.length : 0;
    const { outbox } = this;
    const at = outbox.reserve(from, StatusReply.size + length);
    if (at < 0) {
      this.refused++;
      return;
    }
    const target = outbox.bytes;
    begin(StatusReply, target, at);
    writeI32(target, at + StatusReply.at.view, this.view);
    writeI32(target, at + StatusReply.at.nonce, readI32(bytes, o + Status.at.nonce));
    writeI32(target, at + StatusReply.at.nonce + 4, readI32(bytes, o + Status.at.nonce + 4));
    writeI32(target, at + StatusReply.at.length, report.length);
    writeU16(target, at + StatusReply.at.report, length);
    if (fits) target.set(report, at + StatusReply.size);
    outbox.commit(StatusReply.size + length);
    this.answered++;
  }

  private fresh(nowUs: number): Uint8Array {
    if (nowUs - this.builtAtUs < FRESH_US) return this.report;
    this.builtAtUs = nowUs;
    try {
      const described = this.describe();
      this.report = encodeReport(described);
      this.view = described.view;
    } catch (error) {
      this.report = NOTHING;
      this.failed(error instanceof Error ? error.message : String(error));
    }
    return this.report;
  }

  private takeToken(nowUs: number): boolean {
    this.tokens = Math.min(BURST, this.tokens + ((nowUs - this.refilledAtUs) / 1e6) * PER_SECOND);
    this.refilledAtUs = nowUs;
    if (this.tokens < 1) return false;
    this.tokens--;
    return true;
  }
}
