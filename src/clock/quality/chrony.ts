/**
 * chronyd's tracking report: how far CLOCK_REALTIME is from chronyd's sources, and how far those may be off. Read from
 * chronyd's command port on loopback, which answers every user (candm.h of chrony: protocol version 6, REQ_TRACKING 33,
 * RPY_TRACKING 5; a request is padded to the length of its reply).
 *
 * The bound is NTP's root distance, as chrony's documentation gives it: |correction| + dispersion + delay / 2. chrony
 * counts the error of a reference clock (a PTP hardware clock, GPS) as zero, so that error must be added, or the bound
 * is unknown.
 */
import { createSocket } from 'node:dgram';
import { randomInt } from 'node:crypto';
import { reasonOf, statedError, stated, unavailable, type Stated } from './statement.js';

const CHRONY_PORT = 323;

const PROTOCOL = 6;
const REQUEST = 1;
const REPLY = 2;
const TRACKING = 33;
const TRACKING_REPLY = 5;
const HEADER_BYTES = 28;
/** Reference id, address, stratum, leap, time, nine floats; and the end mark, which some versions omit. */
const TRACKING_BYTES = 72;
const REPLY_BYTES = HEADER_BYTES + TRACKING_BYTES + 4;
const LEAP_UNSYNCHRONIZED = 3;
/** 127.127.1.1: chronyd takes its own clock as the reference (`local`). */
const LOCAL_REFERENCE = 0x7f7f0101;
/** addressing.h: a reference clock has no address, an NTP server has one. */
const NO_ADDRESS = 0;
/**
 * chronyd's default names for reference clocks: three letters of the driver and a digit. These three drivers are not
 * PTP hardware clocks.
 */
const OTHER_REFERENCE_CLOCKS = /^(SHM|SOC|PPS)\d$/;
const TIMEOUT_MS = 200;

/**
 * `phcErrorNs`: the largest error that the drivers of this host's PTP hardware clocks state, ns; null if one of them
 * states none, or if there is no such clock.
 */
export async function readChrony(
  port: number = CHRONY_PORT,
  timeoutMs: number = TIMEOUT_MS,
  phcErrorNs: () => number | null = () => null,
): Promise<Stated> {
  const sequence = randomInt(0x100000000);
  try {
    const reply = await ask(
      port,
      trackingRequest(sequence),
      timeoutMs,
      (bytes) => bytes.length >= HEADER_BYTES && bytes.readUInt32BE(16) === sequence,
    );
    return reply === undefined
      ? unavailable('chrony', `no answer on port ${port} within ${timeoutMs} ms`)
      : interpretTracking(reply, sequence, phcErrorNs());
  } catch (error) {
    return unavailable('chrony', `port ${port}: ${reasonOf(error)}`);
  }
}

export function trackingRequest(sequence: number): Buffer {
  const request = Buffer.alloc(REPLY_BYTES);
  request[0] = PROTOCOL;
  request[1] = REQUEST;
  request.writeUInt16BE(TRACKING, 4);
  request.writeUInt32BE(sequence, 8);
  return request;
}

export function interpretTracking(reply: Buffer, sequence: number, phcErrorNs: number | null = null): Stated {
  if (reply.length < HEADER_BYTES || reply[0] !== PROTOCOL || reply[1] !== REPLY)
    return unavailable('chrony', `the answer is not of protocol ${PROTOCOL}`);
  if (reply.readUInt16BE(4) !== TRACKING || reply.readUInt32BE(16) !== sequence)
    return unavailable('chrony', 'the answer is to another question');
  if (reply.readUInt16BE(8) !== 0) return unavailable('chrony', `chronyd refuses: status ${reply.readUInt16BE(8)}`);
  if (reply.readUInt16BE(6) !== TRACKING_REPLY || reply.length < HEADER_BYTES + TRACKING_BYTES)
    return unavailable('chrony', 'the answer is no tracking report');
  const at = HEADER_BYTES;
  const referenceId = reply.readUInt32BE(at);
  const addressFamily = reply.readUInt16BE(at + 20);
  const stratum = reply.readUInt16BE(at + 24);
  const leap = reply.readUInt16BE(at + 26);
  const float = (index: number): number => chronyFloat(reply.readInt32BE(at + 40 + 4 * index));
  const correctionS = float(0);
  const [rootDelayS, rootDispersionS] = [float(6), float(7)];
  const synchronized = leap !== LEAP_UNSYNCHRONIZED && referenceId !== 0 && referenceId !== LOCAL_REFERENCE;
  const distanceNs = (Math.abs(correctionS) + rootDispersionS + rootDelayS / 2) * 1e9;
  const byServer = { errorNs: statedError(distanceNs), found: `stratum ${stratum}` };
  const kept =
    addressFamily === NO_ADDRESS
      ? byReferenceClock(reply.toString('latin1', at, at + 4), distanceNs, phcErrorNs)
      : byServer;
  return stated({
    source: 'chrony',
    about: 'realtime',
    status: synchronized ? 'synchronized' : 'free-running',
    errorNs: synchronized ? kept.errorNs : null,
    found: synchronized
      ? kept.found
      : referenceId === LOCAL_REFERENCE
        ? 'takes its own clock for the truth'
        : 'has chosen no source',
    detail: {
      referenceId: referenceId.toString(16).padStart(8, '0'),
      stratum,
      leap,
      correctionNs: Math.round(correctionS * 1e9),
      frequencyPpb: Math.round(float(3) * 1e3),
      rootDelayNs: Math.round(rootDelayS * 1e9),
      rootDispersionNs: Math.round(rootDispersionS * 1e9),
    },
  });
}

/** chronyd does not say which device its reference clock is, so the largest error that any of them states is taken. */
function byReferenceClock(
  id: string,
  distanceNs: number,
  phcErrorNs: number | null,
): { readonly errorNs: number | null; readonly found: string } {
  const name = `the reference clock ${/^[\x21-\x7e]+\0*$/.test(id) ? id.replaceAll('\0', '') : 'without a name'}`;
  if (phcErrorNs === null || OTHER_REFERENCE_CLOCKS.test(id))
    return { errorNs: null, found: `by ${name}, whose own error chrony does not count` };
  return {
    errorNs: statedError(distanceNs + phcErrorNs),
    found: `by ${name}; its driver states ${Math.round(phcErrorNs)} ns, which are added`,
  };
}

/** chrony's own float format: a signed 7-bit exponent over a signed 25-bit coefficient. */
export function chronyFloat(bits: number): number {
  const exponent = (bits >> 25) - 25;
  const coefficient = (bits << 7) >> 7;
  return coefficient * 2 ** exponent;
}

/**
 * The first answer that fits, or undefined. The socket is connected: it hears no other sender, and a closed port is an
 * error.
 */
function ask(
  port: number,
  request: Buffer,
  timeoutMs: number,
  fits: (bytes: Buffer) => boolean,
): Promise<Buffer | undefined> {
  const socket = createSocket('udp4');
  return new Promise<Buffer | undefined>((resolve, reject) => {
    const timer = setTimeout(() => resolve(undefined), timeoutMs);
    socket.once('error', reject);
    socket.on('message', (bytes) => fits(bytes) && resolve(bytes));
    socket.connect(port, '127.0.0.1', () => socket.send(request));
    socket.once('close', () => clearTimeout(timer));
  }).finally(() => socket.close());
}
