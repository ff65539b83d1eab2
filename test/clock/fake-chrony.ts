/** Answers in chronyd's form: a tracking report, and a server that sends what a test provides. */
import { createSocket } from 'node:dgram';
import type { Test } from 'tap';

export interface TrackingFields {
  readonly leap?: number;
  readonly referenceId?: number;
  /** addressing.h: 0 none (a reference clock), 1 IPv4. */
  readonly family?: number;
  readonly stratum?: number;
  readonly status?: number;
  /**
   * In chrony's form: correction, offset, deviation, frequency, residual, skew, root delay, root dispersion, interval.
   */
  readonly floats?: readonly number[];
}

/** A tracking report as chronyd sends it. */
export function tracking(sequence: number, fields: TrackingFields = {}): Buffer {
  const bytes = Buffer.alloc(104);
  bytes[0] = 6;
  bytes[1] = 2;
  bytes.writeUInt16BE(33, 4);
  bytes.writeUInt16BE(5, 6);
  bytes.writeUInt16BE(fields.status ?? 0, 8);
  bytes.writeUInt32BE(sequence, 16);
  bytes.writeUInt32BE(fields.referenceId ?? 0x0a000001, 28);
  bytes.writeUInt16BE(fields.family ?? 1, 48);
  bytes.writeUInt16BE(fields.stratum ?? 2, 52);
  bytes.writeUInt16BE(fields.leap ?? 0, 54);
  (fields.floats ?? []).forEach((bits, index) => bytes.writeInt32BE(bits, 68 + 4 * index));
  return bytes;
}

/** Seconds in chrony's form, to 2^-24. */
export function toChronyFloat(seconds: number): number {
  if (seconds === 0) return 0;
  const exponent = Math.floor(Math.log2(Math.abs(seconds))) + 2;
  return ((exponent & 0x7f) << 25) | (Math.round(seconds * 2 ** (25 - exponent)) & 0x1ffffff);
}

/** The floats of a report. */
export function trackingFloats(correctionS: number, rootDelayS: number, rootDispersionS: number): number[] {
  return [toChronyFloat(correctionS), 0, 0, 0, 0, 0, toChronyFloat(rootDelayS), toChronyFloat(rootDispersionS), 0];
}

/** A server that answers each request with the result of `answers` for its sequence number. Returns its port. */
export async function fakeChrony(t: Test, answers: (sequence: number) => readonly Buffer[]): Promise<number> {
  const server = createSocket('udp4');
  await new Promise<void>((resolve) => server.bind(0, '127.0.0.1', resolve));
  t.teardown(() => server.close());
  server.on('message', (request, { port }) => {
    for (const bytes of answers(request.readUInt32BE(8))) server.send(bytes, port, '127.0.0.1');
  });
  return server.address().port;
}
