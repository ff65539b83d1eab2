/** What a tool that asks replicas for their status does with answers, without sockets: they are given to `receive`. */
import { Inquiry } from '../../src/client/inquiry.js';
import { STATUS_QUESTION } from '../../src/client/status-client.js';
import { AnswerPieces } from '../../src/host/answer-pieces.js';
import type { ReplicaStatusReport } from '../../src/host/status.js';
import { Instant } from '../../src/protocol/contract.js';
import { DEFAULT_DATAGRAM_BYTES, MAX_DATAGRAM_BYTES } from '../../src/wire/envelope.js';

/** One whose question to this many replicas stays open. */
export function statusInquiry(replicas: number): Inquiry<ReplicaStatusReport> {
  const now = new Instant();
  const loop = {
    datagramBytes: DEFAULT_DATAGRAM_BYTES,
    outbox: { bytes: new Uint8Array(MAX_DATAGRAM_BYTES), reserve: () => 0, commit: () => undefined },
    start: () => undefined,
    enter: () => now,
  };
  const clock = { close: () => undefined };
  const hosts = Array.from({ length: replicas }, (_, id) => ({ id, at: { host: 'fuzz', port: 7000 + id } }));
  const inquiry: Inquiry<ReplicaStatusReport> = Reflect.construct(Inquiry, [
    {},
    'fuzz',
    STATUS_QUESTION,
    loop,
    clock,
    hosts,
  ]);
  inquiry['query'] = {
    answers: Array.from({ length: replicas }, (_, id) => ({
      id,
      address: '',
      answer: undefined,
      roundTripUs: undefined,
      speaks: 0,
    })),
    askedAtUs: new Float64Array(replicas),
    roundTripUs: new Float64Array(replicas),
    pieces: hosts.map(() => new AnswerPieces(STATUS_QUESTION.bytesMax, 1)),
    isEnough: () => false,
    missing: Infinity,
    repeatUs: 0,
    nextUs: Infinity,
    end: () => undefined,
  };
  return inquiry;
}
