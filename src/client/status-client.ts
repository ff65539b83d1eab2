/// <reference lib="esnext.disposable" preserve="true" />
/**
 * Asks replicas about themselves, for `jitpaxos status` and `top`: see inquiry.ts.
 */
import type { Cluster, ClusterConfig } from '../host/cluster-config.js';
import type { KeyFile } from '../host/key-file.js';
import type { Logger } from '../host/logger.js';
import { decodeReport } from '../host/status-codec.js';
import type { ReplicaStatusReport } from '../host/status.js';
import type { TransportKind } from '../host/transport-choice.js';
import { begin } from '../wire/layout.js';
import { Status, StatusReply } from '../wire/messages.js';
import { readI32, readU16, writeI32, writeU16 } from '../wire/u64.js';
import { Inquiry, type Question } from './inquiry.js';

export interface StatusClientOptions {
  /** Path of the cluster file, or its content. */
  readonly cluster: string | ClusterConfig;
  /**
   * The key file's path, or its content, in a cluster with keys. Default: `client.keys` beside the cluster file,
   * `NAME.client.keys` beside a file called NAME.json.
   */
  readonly keys?: string | KeyFile;
  readonly transport?: TransportKind;
  /** Default: silent. */
  readonly logger?: Logger;
}

/** What one replica of the cluster file answered, if it did. */
export interface StatusAnswer {
  readonly id: number;
  /** `host:port` as in the cluster file, IPv6 in brackets. */
  readonly address: string;
  /** Undefined: no answer in time. */
  readonly report: ReplicaStatusReport | undefined;
  /** If there was no answer: what is known about the silent replicas, and what to do. */
  readonly silence?: string;
  /** From a question to its answer, µs. */
  readonly roundTripUs: number | undefined;
}

const DEFAULT_TIMEOUT_MS = 1_000;
/** The longest report that is accepted; a longer one is not ours. */
const REPORT_BYTES_MAX = 32_768;
/** The values of Status.serial that ask for the first piece of a new report. A report's own serial is larger. */
const NEWEST = 1;

/** What is asked, and how pieces of the answer are read. */
export const STATUS_QUESTION: Question<ReplicaStatusReport> = {
  askBytes: Status.size,
  answerType: StatusReply.type,
  answerBytes: StatusReply.size,
  nonceInQuestion: Status.at.nonce,
  nonceInAnswer: StatusReply.at.nonce,
  bytesMax: REPORT_BYTES_MAX,
  newest: NEWEST,
  write(bytes, o, edition, offset, padding): void {
    begin(Status, bytes, o);
    writeI32(bytes, o + Status.at.serial, edition);
    writeI32(bytes, o + Status.at.offset, offset);
    writeU16(bytes, o + Status.at.padding, padding);
  },
  readPiece: (bytes, o) => ({
    edition: Math.max(NEWEST, readI32(bytes, o + StatusReply.at.serial) >>> 0),
    wanted: readI32(bytes, o + StatusReply.at.length) >>> 0,
    offset: readI32(bytes, o + StatusReply.at.offset) >>> 0,
    length: readU16(bytes, o + StatusReply.at.report),
  }),
  decode(whole, _head, from) {
    const report = decodeReport(whole);
    return report?.id === from ? report : undefined;
  },
};

export class StatusClient {
  private constructor(
    private readonly inquiry: Inquiry<ReplicaStatusReport>,
    /** The cluster file, checked. */
    readonly cluster: Cluster,
  ) {}

  /**
   * Opens sockets; asks nothing yet.
   *
   * Throws JitPaxosError `option-invalid`, `cluster-file-unreadable`, `cluster-file-invalid`, `key-file-unreadable`,
   * `key-file-invalid`, `key-file-exposed`, `host-unresolved`, `address-unavailable`.
   */
  static async open(options: StatusClientOptions): Promise<StatusClient> {
    const inquiry = await Inquiry.open('StatusClient', options, STATUS_QUESTION);
    return new StatusClient(inquiry, inquiry.cluster);
  }

  /**
   * Asks every replica. Resolves with an answer for each, by replica index, as soon as all have answered or the time is
   * up. A replica that did not answer has no report; that is not an error.
   *
   * @param timeoutMs default 1,000 Throws JitPaxosError `option-invalid`, `client-closed`, and `busy` while another
   * query is open.
   */
  async ask(timeoutMs: number = DEFAULT_TIMEOUT_MS): Promise<readonly StatusAnswer[]> {
    const answers = await this.inquiry.ask(timeoutMs);
    return answers.map(({ answer, speaks: _, ...rest }) => ({ ...rest, report: answer }));
  }

  /** Ends an open query with the answers so far. */
  close(): Promise<void> {
    return this.inquiry.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}
