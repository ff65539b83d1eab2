/**
 * ptp4l, asked through its management socket as linuxptp's pmc does: how far the port's clock is from the
 * grandmaster's. Source: IEEE 1588-2008, 15 (management messages) and, for the identifiers from 0xC000 on, tlv.h of
 * linuxptp.
 *
 * The bound is |offsetFromMaster| + meanPathDelay. PTP assumes that both directions take equally long, and cannot check
 * it; the resulting error cannot exceed the whole delay. The error of the grandmaster itself is not included: `found`
 * names the grandmaster, and says whether it claims to be traceable.
 */
import { randomInt } from 'node:crypto';
import { dirname, join } from 'node:path';
import { getSystemErrorName } from 'node:util';
import { setTimeout as delay } from 'node:timers/promises';
import type { NativeBinding, UnixDatagramHandle } from '../../native/addon.js';
import { reasonOf, stated, statedError, unavailable, type ClockStatus, type Stated } from './statement.js';

/** The read-only socket, which every user may use, exists since linuxptp 4.0. */
const PTP4L_SOCKETS = ['/var/run/ptp4lro', '/var/run/ptp4l'] as const;

const HEADER_BYTES = 34;
/** Header, target port identity, hops, action, and one TLV with an identifier. */
const REQUEST_BYTES = 54;
const DOMAIN_AT = 4;
const TLV_AT = 48;
const DATA_AT = 54;
const MANAGEMENT = 0x0d;
const GET = 0;
const RESPONSE = 2;
const TLV_MANAGEMENT = 0x0001;
const Id = {
  currentDataSet: 0x2001,
  parentDataSet: 0x2002,
  timeProperties: 0x2003,
  portDataSet: 0x2004,
  timeStatus: 0xc000,
  portProperties: 0xc004,
} as const;
const PORT_STATES = [
  '',
  'initializing',
  'faulty',
  'disabled',
  'listening',
  'pre-master',
  'master',
  'passive',
  'uncalibrated',
  'slave',
] as const;
/**
 * Domain numbers that ptp4l takes. Most networks use 0; telecom profiles use 24 and 44, video uses 127. ptp4l answers
 * only to its own.
 */
const DOMAINS = 128;
/** Requests at a time while the domain is looked for: a socket holds no more than ten unread ones. */
const DOMAINS_AT_ONCE = 8;
/** Time to wait for an answer in the domain that answered last. */
const DOMAIN_MS = 100;
const TIMEOUT_MS = 300;
const POLL_MS = 2;
const DATAGRAM_BYTES = 1500;
/** A network interface's name, IFNAMSIZ. */
const INTERFACE_BYTES_MAX = 16;
/** timePropertiesDS flags. */
const FLAG_UTC_OFFSET_VALID = 0x04;
const FLAG_PTP_TIMESCALE = 0x08;
const FLAG_TIME_TRACEABLE = 0x10;

export interface Ptp4lReport {
  readonly domain: number;
  /** State of the port that follows a master, or of the first port. */
  readonly portState: string;
  /** Interface of that port, if ptp4l tells. */
  readonly interface: string | undefined;
  /** `software`: this ptp4l disciplines the system clock, whatever clock the card has; undefined: not told. */
  readonly timestamping: 'software' | 'hardware' | undefined;
  readonly offsetFromMasterNs: number;
  readonly meanPathDelayNs: number;
  readonly stepsRemoved: number;
  readonly grandmaster: string;
  readonly grandmasterPresent: boolean;
  /** UTC offset in s, when the grandmaster says that it is valid. */
  readonly utcOffsetS: number | undefined;
  readonly ptpTimescale: boolean;
  readonly timeTraceable: boolean;
}

/** Asks the first of `sockets` that answers. */
export async function readPtp4l(
  binding: NativeBinding,
  sockets: readonly string[] = PTP4L_SOCKETS,
  timeoutMs: number = TIMEOUT_MS,
): Promise<Stated & { readonly report?: Ptp4lReport }> {
  if (!binding.available) return unavailable('ptp4l', binding.reason);
  const reasons: string[] = [];
  for (const socket of sockets) {
    try {
      const report = await query(binding.addon.UnixDatagram, socket, timeoutMs);
      if (report !== undefined) return { ...interpretPtp4l(report), report };
      reasons.push(`${socket}: no answer within ${timeoutMs} ms`);
    } catch (error) {
      reasons.push(`${socket}: ${nameOf(error)}`);
    }
  }
  return unavailable('ptp4l', reasons.join('; '));
}

export function interpretPtp4l(report: Ptp4lReport): Extract<Stated, { readonly available: true }> {
  const { portState, offsetFromMasterNs, meanPathDelayNs, grandmaster } = report;
  const following = portState === 'slave';
  const status: ClockStatus = following
    ? 'synchronized'
    : portState === 'uncalibrated'
      ? 'stepped'
      : portState === 'master' || portState === 'grand-master'
        ? 'unknown'
        : 'free-running';
  return stated({
    source: 'ptp4l',
    about: report.timestamping === 'software' ? 'realtime' : 'phc',
    status,
    errorNs: following ? statedError(Math.abs(offsetFromMasterNs) + Math.max(0, meanPathDelayNs)) : null,
    found: following
      ? `follows ${grandmaster}${report.timeTraceable ? '' : ', which claims no traceable time'}`
      : `port is ${portState}${portState === 'master' ? ': others follow this clock' : ''}`,
    detail: {
      domain: report.domain,
      portState,
      interface: report.interface ?? null,
      timestamping: report.timestamping ?? null,
      offsetFromMasterNs,
      meanPathDelayNs,
      stepsRemoved: report.stepsRemoved,
      grandmaster,
      grandmasterPresent: report.grandmasterPresent,
      utcOffsetS: report.utcOffsetS ?? null,
      ptpTimescale: report.ptpTimescale,
      timeTraceable: report.timeTraceable,
    },
  });
}

/** A GET of one data set, to all ports. */
export function managementRequest(id: number, sequence: number, sender: number, domain: number = 0): Buffer {
  const request = Buffer.alloc(REQUEST_BYTES);
  request[0] = MANAGEMENT;
  request[1] = 2; // PTP version
  request.writeUInt16BE(REQUEST_BYTES, 2);
  request[DOMAIN_AT] = domain;
  request.writeUInt16BE(sender & 0xffff, 28);
  request.writeUInt16BE(sequence, 30);
  request[32] = 4; // controlField: management
  request[33] = 0x7f;
  request.fill(0xff, HEADER_BYTES, HEADER_BYTES + 10);
  request[46] = GET;
  request.writeUInt16BE(TLV_MANAGEMENT, TLV_AT);
  request.writeUInt16BE(2, TLV_AT + 2);
  request.writeUInt16BE(id, TLV_AT + 4);
  return request;
}

/** The data of a response to `id` and `sequence`; undefined for anything else. */
export function managementData(bytes: Buffer, id: number, sequence: number): Buffer | undefined {
  if (bytes.length < DATA_AT || (bytes[0]! & 0x0f) !== MANAGEMENT || (bytes[1]! & 0x0f) !== 2) return undefined;
  if (bytes.readUInt16BE(30) !== sequence || (bytes[46]! & 0x0f) !== RESPONSE) return undefined;
  if (bytes.readUInt16BE(TLV_AT) !== TLV_MANAGEMENT || bytes.readUInt16BE(TLV_AT + 4) !== id) return undefined;
  const length = bytes.readUInt16BE(TLV_AT + 2) - 2;
  return length >= 0 && DATA_AT + length <= bytes.length ? bytes.subarray(DATA_AT, DATA_AT + length) : undefined;
}

let sequences = 0;

async function query(
  UnixDatagram: new (local: string, remote: string) => UnixDatagramHandle,
  remote: string,
  timeoutMs: number,
): Promise<Ptp4lReport | undefined> {
  const socket = connectTo(UnixDatagram, remote);
  try {
    const deadline = performance.now() + timeoutMs;
    const domain = await findDomain(socket, remote, deadline);
    if (domain === undefined) return undefined;
    const ask = (id: number, sizeMin: number): Promise<Buffer[]> => exchange(socket, domain, id, sizeMin, deadline);
    const [current] = await ask(Id.currentDataSet, 18);
    const [parent] = await ask(Id.parentDataSet, 32);
    const [properties] = await ask(Id.timeProperties, 4);
    const ports = await ask(Id.portDataSet, 11);
    if (current === undefined || parent === undefined || properties === undefined || ports.length === 0)
      return undefined;
    const [status] = await ask(Id.timeStatus, 50);
    const states = ports.map((port) => PORT_STATES[port[10]!] ?? `state-${port[10]}`);
    const at = Math.max(
      0,
      states.findIndex((state) => state === 'slave' || state === 'uncalibrated'),
    );
    const flags = properties[2]!;
    return {
      domain,
      portState: states[at]!,
      ...propertiesOf(await ask(Id.portProperties, 13), ports[at]!),
      // timeInterval: ns in 2^-16.
      offsetFromMasterNs: Number(current.readBigInt64BE(2)) / 65536,
      meanPathDelayNs: Number(current.readBigInt64BE(10)) / 65536,
      stepsRemoved: current.readUInt16BE(0),
      grandmaster: identity(parent.subarray(24, 32)),
      grandmasterPresent: status !== undefined && status.readInt32BE(38) !== 0,
      utcOffsetS: (flags & FLAG_UTC_OFFSET_VALID) !== 0 ? properties.readInt16BE(0) : undefined,
      ptpTimescale: (flags & FLAG_PTP_TIMESCALE) !== 0,
      timeTraceable: (flags & FLAG_TIME_TRACEABLE) !== 0,
    };
  } finally {
    socket.close();
  }
}

/**
 * ptp4l answers to a socket by its name, so it must see that name. A file beside its own socket is visible to it
 * whatever /tmp is in either process (systemd's PrivateTmp). A process that may not write there gets a name in the
 * abstract namespace of the network namespace, which then is the host's.
 */
function connectTo(
  UnixDatagram: new (local: string, remote: string) => UnixDatagramHandle,
  remote: string,
): UnixDatagramHandle {
  try {
    return new UnixDatagram(
      join(dirname(remote), `jitpaxos-${process.pid}-${randomInt(2 ** 47).toString(36)}`),
      remote,
    );
  } catch (error) {
    if (!['EACCES', 'EPERM', 'EROFS'].includes(nameOf(error))) throw error;
    return new UnixDatagram('', remote);
  }
}

/** The domain that answered last, by socket. */
const domains = new Map<string, number>();

/** Asks the domain that answered last, and then all; undefined when none answers in time. */
async function findDomain(socket: UnixDatagramHandle, remote: string, deadline: number): Promise<number | undefined> {
  const sequence = nextSequence();
  const bytes = Buffer.alloc(DATAGRAM_BYTES);
  const send = (domain: number): void => {
    try {
      socket.send(managementRequest(Id.currentDataSet, sequence, process.pid, domain));
    } catch (error) {
      // Its queue is full: it is busy, and this domain is skipped.
      if (nameOf(error) !== 'EAGAIN') throw error;
    }
  };
  const answer = async (untilMs: number): Promise<number | undefined> => {
    for (;;) {
      const length = socket.receive(bytes);
      if (length >= 0 && managementData(bytes.subarray(0, length), Id.currentDataSet, sequence) !== undefined) {
        domains.set(remote, bytes[DOMAIN_AT]!);
        return bytes[DOMAIN_AT]!;
      }
      if (length >= 0) continue;
      if (performance.now() >= Math.min(untilMs, deadline)) return undefined;
      await delay(POLL_MS);
    }
  };
  send(domains.get(remote) ?? 0);
  let found = await answer(performance.now() + DOMAIN_MS);
  for (
    let first = 0;
    found === undefined && first < DOMAINS && performance.now() < deadline;
    first += DOMAINS_AT_ONCE
  ) {
    for (let domain = first; domain < first + DOMAINS_AT_ONCE; domain++) send(domain);
    found = await answer(performance.now() + POLL_MS);
  }
  return found ?? answer(deadline);
}

function nameOf(error: unknown): string {
  const { errno } = error as { errno?: number };
  return errno === undefined ? reasonOf(error) : getSystemErrorName(errno);
}

function nextSequence(): number {
  return (sequences = (sequences + 1) & 0xffff);
}

/** Sends one question. Port data sets arrive as one answer for each port, all within a moment. */
async function exchange(
  socket: UnixDatagramHandle,
  domain: number,
  id: number,
  sizeMin: number,
  deadline: number,
): Promise<Buffer[]> {
  const sequence = nextSequence();
  socket.send(managementRequest(id, sequence, process.pid, domain));
  const answers: Buffer[] = [];
  const bytes = Buffer.alloc(DATAGRAM_BYTES);
  while (performance.now() < deadline) {
    const length = socket.receive(bytes);
    if (length >= 0) {
      const data = managementData(bytes.subarray(0, length), id, sequence);
      if (data !== undefined && data.length >= sizeMin) answers.push(Buffer.from(data));
      else if (refused(bytes.subarray(0, length), sequence)) return answers;
      continue;
    }
    if (answers.length > 0) return answers;
    await delay(POLL_MS);
  }
  return answers;
}

/** MANAGEMENT_ERROR_STATUS: this ptp4l does not know the data set, or does not show it to this user. */
function refused(bytes: Buffer, sequence: number): boolean {
  return bytes.length >= DATA_AT && bytes.readUInt16BE(30) === sequence && bytes.readUInt16BE(TLV_AT) === 0x0002;
}

/**
 * PORT_PROPERTIES_NP: port identity 10, state u8, timestamping u8 (0: software), then the interface as length and text.
 */
function propertiesOf(answers: readonly Buffer[], port: Buffer): Pick<Ptp4lReport, 'interface' | 'timestamping'> {
  for (const answer of answers) {
    if (!answer.subarray(0, 10).equals(port.subarray(0, 10))) continue;
    const timestamping = answer[11] === 0 ? 'software' : 'hardware';
    const length = answer[12]!;
    const name =
      length < INTERFACE_BYTES_MAX && 13 + length <= answer.length ? answer.toString('latin1', 13, 13 + length) : '';
    return { timestamping, interface: /^[\w.:@-]+$/.test(name) ? name : undefined };
  }
  return { timestamping: undefined, interface: undefined };
}

/** In pmc's format: 001122.fffe.334455. */
function identity(bytes: Buffer): string {
  const hex = bytes.toString('hex');
  return `${hex.slice(0, 6)}.${hex.slice(6, 10)}.${hex.slice(10)}`;
}
