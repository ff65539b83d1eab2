/**
 * A client that holds a key and does what no client of ours does: it sends each request to the replicas of its choice,
 * under timestamps of its choice, at a rate of its choice. It waits for no answer.
 */
import { createSocket } from 'node:dgram';
import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { loadCluster, resolveAddresses } from '../src/host/cluster-config.js';
import { openKeys } from '../src/host/keyring.js';
import { type LocalCluster, MAIN } from '../src/measure/local-cluster.js';
import { loadHash } from '../src/native/hash64.js';
import { ownedSessionLo } from '../src/protocol/log/session-owner.js';
import { REGISTER_BYTES, REGISTER_LANE } from '../src/protocol/log/sessions.js';
import { CLIENT_SENDER, Envelope } from '../src/wire/envelope.js';
import { begin } from '../src/wire/layout.js';
import { Request, RequestFlag } from '../src/wire/messages.js';
import { writeI32, writeU16 } from '../src/wire/u64.js';

const LANES = 64;
const RELOAD_MS = 20_000;
/** How often it looks whether requests are due. */
const TURN_MS = 2;

export interface Attack {
  readonly view: number;
  /** Replicas that get each request. */
  readonly targets: readonly number[];
  readonly perSecond: number;
  /** How far ahead of this host's clock each request is stamped. */
  readonly aheadMs: number;
  /** As a read-only key may: queries that go through the log. */
  readonly queries: boolean;
  readonly operation: Uint8Array;
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
  private readonly sessionHi = random();
  private readonly sessionLo: number;
  /** Bytes before the Request. */
  private readonly head: number;
  private request = 0;
  private timer: NodeJS.Timeout | undefined;

  private constructor(
    private readonly addresses: readonly { readonly host: string; readonly port: number }[],
    private readonly envelope: Envelope,
    private readonly slot: number,
    private readonly owner: number,
  ) {
    this.sessionLo = ownedSessionLo(random(), owner);
    this.head = envelope.bytesIn(envelope.newest);
  }

  /**
   * Opens a session, which all replicas know.
   * @param keyFile default: the one of all clients
   */
  static async open(clusterFile: string, keyFile?: string): Promise<Attacker> {
    const cluster = loadCluster(clusterFile);
    const addresses = await resolveAddresses(cluster);
    const keys = openKeys(cluster, clusterFile, keyFile, 'client')!.ring;
    const attacker = new Attacker(
      addresses,
      new Envelope(loadHash(), cluster.idHi, cluster.idLo, CLIENT_SENDER, cluster.replicas.length, keys),
      keys.own,
      keys.ownerOf(keys.own),
    );
    attacker.socket.bind(0, '127.0.0.1');
    await once(attacker.socket, 'listening');
    const length = attacker.writeRegister();
    for (let times = 0; times < 5; times++) {
      for (const target of addresses.keys()) attacker.throwAt(target, length);
      await sleep(100);
    }
    attacker.sent = 0;
    return attacker;
  }

  start(attack: Attack): void {
    const fromMs = performance.now();
    let made = 0;
    this.timer = setInterval(() => {
      for (const due = ((performance.now() - fromMs) / 1000) * attack.perSecond; made < due; made++) {
        const length = this.writeRequest(attack);
        for (const target of attack.targets) this.throwAt(target, length);
      }
    }, TURN_MS);
  }

  stop(): void {
    clearInterval(this.timer);
  }

  close(): void {
    this.stop();
    this.socket.close();
  }

  private writeRegister(): number {
    const { bytes } = this;
    const o = this.writeHead(0, REGISTER_LANE, 1, RequestFlag.register, REGISTER_BYTES);
    writeI32(bytes, o, this.owner);
    writeI32(bytes, o + 4, random());
    writeU16(bytes, o + 8, LANES);
    const stamp = this.head + Request.at.timestamp;
    bytes.copyWithin(o + 10, stamp, stamp + 8);
    return o + REGISTER_BYTES;
  }

  private writeRequest({ view, aheadMs, queries, operation }: Attack): number {
    const number = this.request++;
    const o = this.writeHead(
      aheadMs,
      number % LANES,
      1 + Math.floor(number / LANES),
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

  private throwAt(target: number, length: number): void {
    const datagram = this.bytes.slice(0, length); // sealed in place
    if (!this.envelope.seal(datagram, 0, length, this.slot)) throw new Error('the attacker has no key');
    const { host, port } = this.addresses[target]!;
    this.socket.send(datagram, port, host);
    this.sent++;
  }
}

function random(): number {
  return (Math.random() * 0x1_0000_0000) | 0;
}
