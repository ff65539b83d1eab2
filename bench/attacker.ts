/**
 * A client that holds a key and does what no client of ours does: it sends each request to the replicas of its choice,
 * under timestamps of its choice, at a rate of its choice. It waits for no answer.
 */
import { createSocket } from 'node:dgram';
import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { resolveAddresses } from '../src/host/cluster-config.js';
import { type LocalCluster, MAIN } from '../src/measure/local-cluster.js';
import { ownedSessionLo } from '../src/protocol/log/session-owner.js';
import { REGISTER_BYTES, REGISTER_LANE } from '../src/protocol/log/sessions.js';
import type { Envelope } from '../src/wire/envelope.js';
import { begin } from '../src/wire/layout.js';
import { Request, RequestFlag } from '../src/wire/messages.js';
import { writeI32, writeU16 } from '../src/wire/u64.js';
import { clientSeal, random } from './datagrams.js';
import { paced } from './pace.js';

const LANES = 64;
const RELOAD_MS = 20_000;

export interface Attack {
  readonly view: number;
  /** Replicas that get each request. */
  readonly targets: readonly number[];
  /** Replicas that get it that many ms later. */
  readonly later?: { readonly targets: readonly number[]; readonly ms: number };
  readonly perSecond: number;
  /** How far ahead of this host's clock each request is stamped. */
  readonly aheadMs: number;
  /** As a read-only key may: queries that go through the log. */
  readonly queries: boolean;
  readonly operation: Uint8Array;
  /** Instead of requests: Registers, each of another session with this many lanes. */
  readonly registers?: number;
}

/** Adds a key with this role to a running cluster; returns the file that its client reads. */
export async function addKey(cluster: LocalCluster, role: 'client' | 'read-only'): Promise<string> {
  const { stdout } = await promisify(execFile)(process.execPath, [
    ...[MAIN, 'keys', 'add', '--role', role, '--cluster', cluster.clusterFile, '--json'],
  ]);
  const reloads = (): number[] => cluster.replicas.map(({ complaint }) => complaint.split('"keys.reloaded"').length);
  const before = reloads();
  for (const replica of cluster.replicas) replica.kill('SIGHUP');
  for (let waited = 0; !reloads().every((count, id) => count > before[id]!); waited += 20) {
    if (waited > RELOAD_MS) throw new Error('a replica did not read its keys again');
    await sleep(20);
  }
  return (JSON.parse(stdout) as { clientFile: string }).clientFile;
}

export class Attacker {
  /** Requests, each counted once for each replica that it was sent to. */
  sent = 0;
  private readonly socket = createSocket('udp4');
  private readonly bytes = new Uint8Array(1_400);
  private sessionHi = random();
  private sessionLo: number;
  /** Bytes before the Request. */
  private readonly head: number;
  private request = 0;
  private ended: () => void = () => {};
  private closed = false;

  private constructor(
    private readonly addresses: readonly { readonly host: string; readonly port: number }[],
    private readonly envelope: Envelope,
    private readonly slot: number,
    private readonly owner: number,
    private readonly lanes: number,
  ) {
    this.sessionLo = ownedSessionLo(random(), owner);
    this.head = envelope.bytesIn(envelope.newest);
  }

  /**
   * Opens a session, which all replicas know.
   * @param keyFile default: the one of all clients
   * @param lanes of its session
   */
  static async open(clusterFile: string, keyFile?: string, lanes = LANES): Promise<Attacker> {
    const { cluster, envelope, slot, owner } = clientSeal(clusterFile, keyFile);
    const addresses = await resolveAddresses(cluster);
    const attacker = new Attacker(addresses, envelope, slot, owner, lanes);
    attacker.socket.bind(0, '127.0.0.1');
    await once(attacker.socket, 'listening');
    const length = attacker.writeRegister(lanes);
    for (let times = 0; times < 5; times++) {
      for (const target of addresses.keys()) attacker.throwAt(target, attacker.bytes, length);
      await sleep(100);
    }
    attacker.sent = 0;
    return attacker;
  }

  start(attack: Attack): void {
    const { registers, targets, later, perSecond } = attack;
    this.ended = paced(perSecond, () => {
      const length = registers === undefined ? this.writeRequest(attack) : this.writeNextRegister(registers);
      for (const target of targets) this.throwAt(target, this.bytes, length);
      if (later !== undefined) this.throwLater(later, this.bytes.slice(0, length));
    });
  }

  stop(): void {
    this.ended();
  }

  close(): void {
    this.stop();
    this.closed = true;
    this.socket.close();
  }

  /** Its session is another one from now on. */
  private writeNextRegister(lanes: number): number {
    this.sessionHi = random();
    this.sessionLo = ownedSessionLo(random(), this.owner);
    return this.writeRegister(lanes);
  }

  private writeRegister(lanes: number): number {
    const { bytes } = this;
    const o = this.writeHead(0, REGISTER_LANE, 1, RequestFlag.register, REGISTER_BYTES);
    writeI32(bytes, o, this.owner);
    writeI32(bytes, o + 4, random());
    writeU16(bytes, o + 8, lanes);
    const stamp = this.head + Request.at.timestamp;
    bytes.copyWithin(o + 10, stamp, stamp + 8);
    return o + REGISTER_BYTES;
  }

  private writeRequest({ view, aheadMs, queries, operation }: Attack): number {
    const number = this.request++;
    const o = this.writeHead(
      aheadMs,
      number % this.lanes,
      1 + Math.floor(number / this.lanes),
      queries ? RequestFlag.query : 0,
      operation.length,
    );
    writeI32(this.bytes, this.head + Request.at.view, view);
    this.bytes.set(operation, o);
    return o + operation.length;
  }

  /** Writes the fields of a Request; returns where its operation begins. */
  private writeHead(aheadMs: number, lane: number, request: number, flags: number, length: number): number {
    const { bytes } = this;
    const { at } = Request;
    const o = this.head;
    begin(Request, bytes, o);
    writeI32(bytes, o + at.view, 0);
    writeI32(bytes, o + at.session, this.sessionHi);
    writeI32(bytes, o + at.session + 4, this.sessionLo);
    writeU16(bytes, o + at.lane, lane);
    writeI32(bytes, o + at.request, request);
    bytes[o + at.flags] = flags;
    const stamp = BigInt(Math.round((performance.timeOrigin + performance.now() + aheadMs) * 1e3)) * 1_000n;
    writeI32(bytes, o + at.timestamp, Number(stamp >> 32n) | 0);
    writeI32(bytes, o + at.timestamp + 4, Number(stamp & 0xffffffffn) | 0);
    writeU16(bytes, o + at.operation, length);
    return o + Request.size;
  }

  private throwLater({ targets, ms }: NonNullable<Attack['later']>, request: Uint8Array): void {
    setTimeout(() => {
      if (!this.closed) for (const target of targets) this.throwAt(target, request, request.length);
    }, ms);
  }

  private throwAt(target: number, bytes: Uint8Array, length: number): void {
    const datagram = bytes.slice(0, length); // sealed in place
    if (!this.envelope.seal(datagram, 0, length, this.slot)) throw new Error('the attacker has no key');
    const { host, port } = this.addresses[target]!;
    this.socket.send(datagram, port, host);
    this.sent++;
  }
}
