/**
 * The transport that every Node has: UDP by node:dgram, with one socket for each address family that the cluster uses.
 *
 * dgram itself allocates for each datagram (a Buffer and an rinfo to receive one, a request and a view to send one).
 * This transport allocates nothing more. dgram sends at once, without copying. If the kernel has no room, dgram keeps a
 * reference to the array. The array must then not be written again before the socket's queue is empty. No name is
 * looked up: all addresses are numeric.
 */
import { createSocket, type RemoteInfo, type Socket } from 'node:dgram';
import { ArrayPool } from './array-pool.js';
import {
  bindError,
  bindingFor,
  bindingsOf,
  checkBuffer,
  messageOf,
  noticeSendFailing,
  noticeUnbound,
} from './binding.js';
import { EndpointTable } from './endpoint-table.js';
import {
  NOWHERE,
  REPLICA_ADDRESS,
  STRANGER,
  TRANSPORT_COUNTER_NAMES,
  TransportCounter,
  type Address,
  type Receiver,
  type Transport,
  type TransportOptions,
} from './transport.js';

/** Most arrays in use at once: this many datagrams may wait for the kernel before more are dropped. */
const SMALL_ARRAYS = 1024;
const LARGE_ARRAYS = 64;

/** The payload that a 65,535-byte IP packet can carry. */
const UDP_PAYLOAD_MAX = 65_507;

/**
 * dgram reports a failed send only to a callback, and a callback is expensive. One send in this many gets a callback,
 * beginning with the first. This is enough to notice persistent failures.
 */
const SENDS_PER_REPORT = 64;

/** Makes a socket. Tests replace it with one whose kernel is always full. */
export type SocketFactory = (family: 4 | 6, receiveBufferBytes: number, sendBufferBytes: number) => Socket;

export class DgramTransport implements Transport {
  readonly kind = 'dgram';
  readonly idle = 'block';
  readonly batches = false;
  readonly counters = new Float64Array(TRANSPORT_COUNTER_NAMES.length);
  port = 0;

  private readonly pool: ArrayPool;
  private readonly endpoints: EndpointTable;
  /** By place. */
  private readonly replicas: Address[];
  private readonly hosts: number;
  /** A number above every host that has an address. */
  private reach = 0;
  /** By replica: the address of its last datagram that came from elsewhere than the address to which it is written. */
  private readonly heardHosts: (string | undefined)[];
  private readonly heardPorts: number[];
  private readonly receiver: Receiver;
  private socket4: Socket | undefined;
  private socket6: Socket | undefined;
  /** Arrays that a socket's queue may still reference. */
  private readonly deferred: Uint8Array[] = [];
  private readonly received = new Uint8Array(UDP_PAYLOAD_MAX);
  private rinfo: RemoteInfo | undefined;
  private sendsToReport = 1;
  private sendFailing = false;
  private closing: Promise<void> | undefined;

  constructor(
    private readonly options: TransportOptions,
    private readonly socketFactory: SocketFactory = createUdpSocket,
  ) {
    this.pool = new ArrayPool(options.datagramBytes, SMALL_ARRAYS, LARGE_ARRAYS);
    const places = options.places ?? options.replicas.length;
    this.hosts = options.hosts ?? places;
    this.endpoints = new EndpointTable(places, options.endpoints);
    this.replicas = Array.from({ length: places }, (_, place) => options.replicas[place] ?? NOWHERE);
    this.reach = options.replicas.length;
    this.heardHosts = new Array<string | undefined>(this.hosts).fill(undefined);
    this.heardPorts = new Array<number>(this.hosts).fill(0);
    this.receiver = options.receive;
  }

  async open(): Promise<void> {
    const { listen } = this.options;
    try {
      for (const { family, host, port } of bindingsOf(listen, this.replicas)) await this.bind(family, host, port);
    } catch (error) {
      await this.close();
      throw error;
    }
    const listening =
      listen?.family === 6 ? this.socket6 : listen?.family === 4 ? this.socket4 : (this.socket4 ?? this.socket6);
    this.port = listening?.address().port ?? 0;
  }

  acquire(length: number): Uint8Array | undefined {
    const bytes = this.pool.acquire(length);
    if (bytes !== undefined) return bytes;
    if (this.deferred.length > 0) {
      this.reclaim();
      const again = this.pool.acquire(length);
      if (again !== undefined) return again;
    }
    this.counters[TransportCounter.send_queue_full]!++;
    return undefined;
  }

  release(bytes: Uint8Array): void {
    this.pool.release(bytes);
  }

  send(bytes: Uint8Array, length: number, endpoint: number): void {
    let host: string;
    let port: number;
    if (endpoint < this.replicas.length) {
      const replica = this.replicas[endpoint]!;
      host = replica.host;
      port = replica.port;
      if (host === '') {
        this.counters[TransportCounter.endpoint_unknown]!++;
        this.pool.release(bytes);
        return;
      }
    } else {
      const slot = this.endpoints.slotOf(endpoint);
      if (slot < 0) {
        this.counters[TransportCounter.endpoint_unknown]!++;
        this.pool.release(bytes);
        return;
      }
      host = this.endpoints.hostOf(slot);
      port = this.endpoints.portOf(slot);
    }
    const socket = host.includes(':') ? this.socket6 : this.socket4;
    if (socket === undefined) {
      this.counters[TransportCounter.send_errors]!++;
      this.pool.release(bytes);
      return;
    }
    try {
      if (--this.sendsToReport === 0) {
        this.sendsToReport = SENDS_PER_REPORT;
        socket.send(bytes, 0, length, port, host, this.onSent);
      } else {
        socket.send(bytes, 0, length, port, host);
      }
    } catch (error) {
      this.sendFailed(error);
      this.pool.release(bytes);
      return;
    }
    this.counters[TransportCounter.datagrams_sent]!++;
    this.counters[TransportCounter.bytes_sent]! += length;
    if (length > this.options.datagramBytes) this.counters[TransportCounter.datagrams_fragmented]!++;
    if (socket.getSendQueueCount() === 0) {
      this.pool.release(bytes);
    } else {
      this.counters[TransportCounter.send_deferred]!++;
      this.deferred.push(bytes);
    }
  }

  flush(): void {
    if (this.deferred.length > 0) this.reclaim();
  }

  sender(): number {
    const { rinfo } = this;
    if (rinfo === undefined) throw new Error('a datagram has a sender while it is being received only');
    return this.endpointOf(rinfo.address, rinfo.port);
  }

  knownSender(): number {
    const { address, port } = this.rinfo!;
    const known = this.endpoints.find(address, port);
    if (known >= 0) return known;
    for (let replica = 0; replica < this.reach; replica++) {
      const { host, port: own } = this.replicas[replica]!;
      if (own === port && host === address) return REPLICA_ADDRESS;
      if (this.heardPorts[replica] === port && this.heardHosts[replica] === address) return REPLICA_ADDRESS;
    }
    return STRANGER;
  }

  noteReplica(replica: number): void {
    this.heardHosts[replica] = this.rinfo!.address;
    this.heardPorts[replica] = this.rinfo!.port;
    if (replica >= this.reach) this.reach = replica + 1;
  }

  kernelDrops(): number {
    return -1;
  }

  isFiltered(): boolean {
    return false;
  }

  endpointOf(host: string, port: number): number {
    const endpoint = this.endpoints.intern(host, port);
    this.counters[TransportCounter.endpoints_evicted] = this.endpoints.evicted;
    return endpoint;
  }

  placeSender(place: number): void {
    const { address: host, port, family } = this.rinfo!;
    this.replicas[place] = { host, port, family: family === 'IPv6' ? 6 : 4 };
  }

  readdress(place: number, address: Address): void {
    this.replicas[place] = address;
    if (place < this.hosts) {
      if (address.host === '') this.heardHosts[place] = undefined;
      this.reach = this.hosts;
      while (
        this.reach > 0 &&
        this.replicas[this.reach - 1]!.host === '' &&
        this.heardHosts[this.reach - 1] === undefined
      )
        this.reach--;
    }
    if (address.host === '') return;
    if (this.closing !== undefined || (address.family === 6 ? this.socket6 : this.socket4) !== undefined) return;
    const { family, host, port } = bindingFor(address.family);
    this.bind(family, host, port).catch((error: unknown) => {
      if (family === 6) this.socket6 = undefined;
      else this.socket4 = undefined;
      noticeUnbound(this.options.notice, address, error);
    });
  }

  endBatchSoon(): boolean {
    return false;
  }

  close(): Promise<void> {
    this.closing ??= Promise.all([closeSocket(this.socket4), closeSocket(this.socket6)]).then(() => undefined);
    this.socket4 = undefined;
    this.socket6 = undefined;
    return this.closing;
  }

  private readonly onMessage = (bytes: Uint8Array, rinfo: RemoteInfo): void => {
    if (this.closing !== undefined) return;
    this.counters[TransportCounter.datagrams_received]!++;
    this.counters[TransportCounter.bytes_received]! += bytes.length;
    this.rinfo = rinfo;
    // Always the same array: a handler may keep a view of it.
    this.received.set(bytes);
    this.receiver(this.received, 0, bytes.length);
    this.rinfo = undefined;
  };

  private readonly onSent = (error: Error | null): void => {
    if (error !== null) this.sendFailed(error);
    else this.sendFailing = false;
  };

  private sendFailed(error: unknown): void {
    this.counters[TransportCounter.send_errors]!++;
    if (this.sendFailing || this.closing !== undefined) return;
    this.sendFailing = true;
    noticeSendFailing(this.options.notice, messageOf(error));
  }

  /** All queues are empty: nothing references the arrays any more. */
  private reclaim(): void {
    if ((this.socket4?.getSendQueueCount() ?? 0) !== 0 || (this.socket6?.getSendQueueCount() ?? 0) !== 0) return;
    for (let bytes = this.deferred.pop(); bytes !== undefined; bytes = this.deferred.pop()) this.pool.release(bytes);
  }

  private async bind(family: 4 | 6, host: string, port: number): Promise<void> {
    const socket = this.socketFactory(family, this.options.receiveBufferBytes, this.options.sendBufferBytes);
    if (family === 6) this.socket6 = socket;
    else this.socket4 = socket;
    await new Promise<void>((resolve, reject) => {
      socket.once('error', (error) => reject(bindError(error, host, port, this.options.listenFrom)));
      socket.bind({ address: host, port, exclusive: true }, resolve);
    });
    socket.removeAllListeners('error');
    socket.on('error', () => this.counters[TransportCounter.receive_errors]!++);
    socket.on('message', this.onMessage);
    const { notice, receiveBufferBytes, sendBufferBytes } = this.options;
    checkBuffer(notice, 'receive', socket.getRecvBufferSize(), receiveBufferBytes);
    checkBuffer(notice, 'send', socket.getSendBufferSize(), sendBufferBytes);
  }
}

function createUdpSocket(family: 4 | 6, receiveBufferBytes: number, sendBufferBytes: number): Socket {
  return createSocket({
    type: family === 6 ? 'udp6' : 'udp4',
    ipv6Only: family === 6,
    recvBufferSize: receiveBufferBytes,
    sendBufferSize: sendBufferBytes,
    lookup: (host, _options, done) => done(null, host, family),
  });
}

function closeSocket(socket: Socket | undefined): Promise<void> {
  if (socket === undefined) return Promise.resolve();
  return new Promise((resolve) => {
    try {
      socket.close(() => resolve());
    } catch {
      resolve(); // the socket failed to bind and is already closed
    }
  });
}
