/** What is measured at a point, and how large its messages are: the same for our contestant and for every baseline. */
import { KV_KEY_BYTES, keyOf } from './slot-operations.js';
import { encodeGet, encodePut } from '../../machine/kv-codec.js';
import { JUMBO_DATAGRAM_BYTES, ENVELOPE_BYTES } from '../../wire/envelope.js';
import { Read, ReadReply, Reply, Request } from '../../wire/messages.js';

export interface Point {
  readonly replicas: number;
  readonly clients: number;
  /** Operations open in each client. */
  readonly open: number;
  /** Size of an echoed operation, or of a value. */
  readonly bytes: number;
  readonly operation: 'read' | 'write';
  readonly machine: 'echo' | 'kv';
  /** Longest datagram of several messages, envelope included. Default: what the cluster uses on loopback. */
  readonly datagramBytes?: number | undefined;
}

/** Bytes. */
export interface Sizes {
  readonly datagram: number;
  readonly envelope: number;
  readonly request: number;
  /** The primary's answer, with the result. */
  readonly answer: number;
  /** The other members'. */
  readonly otherAnswer: number;
  /** Most requests that share a datagram. Answers: as many as fit. */
  readonly perDatagram: number;
}

export function sizesOf(point: Point): Sizes {
  const [request, answer] = point.operation === 'read' ? [Read, ReadReply] : [Request, Reply];
  const requestBytes = request.size + operationBytes(point);
  const answerBytes = answer.size + resultBytes(point);
  const datagram = Math.max(
    point.datagramBytes ?? JUMBO_DATAGRAM_BYTES,
    ENVELOPE_BYTES + Math.max(requestBytes, answerBytes),
  );
  return {
    datagram,
    envelope: ENVELOPE_BYTES,
    request: requestBytes,
    answer: answerBytes,
    otherAnswer: answer.size,
    perDatagram: Math.floor((datagram - ENVELOPE_BYTES) / requestBytes),
  };
}

/** Members of a quorum. */
export function quorumOf(replicas: number): number {
  return (replicas + 1) / 2;
}

function operationBytes({ machine, operation, bytes }: Point): number {
  if (machine === 'echo') return bytes;
  const target = new Uint8Array(bytes + KV_KEY_BYTES + 16);
  return operation === 'read' ? encodeGet(target, 0, keyOf(0)) : encodePut(target, 0, keyOf(0), new Uint8Array(bytes));
}

/** A put answers with its status, a get with its status and the value. */
function resultBytes({ machine, operation, bytes }: Point): number {
  if (machine === 'echo') return bytes;
  return operation === 'read' ? bytes + 1 : 1;
}
