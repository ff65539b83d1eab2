/**
 * The network of a chaos run: a UDP relay between every process and every replica, which loses, delays, duplicates,
 * reorders and cuts off. It needs no netem in the kernel.
 *
 * A *link* leads from one process to one replica: a socket whose port the process knows as the replica's address.
 * Datagrams from the process go on to the replica, and the replica's answers there go back (it answers clients where
 * they came from; other replicas it knows by links of its own). Each direction has its own weather.
 */
import { createSocket, type Socket } from 'node:dgram';
import type { Random } from '../../../src/sim/random.js';

/** What happens to the datagrams of one direction. */
export interface Weather {
  /** Nothing arrives. */
  readonly cut: boolean;
  readonly loss: number;
  readonly duplication: number;
  /** Share of the datagrams that are held back, and for how long at most, ms: later ones overtake them. */
  readonly delayed: number;
  readonly delayMsMax: number;
}

export const FAIR: Weather = { cut: false, loss: 0, duplication: 0, delayed: 0, delayMsMax: 0 };

/** Datagrams held back at once; further ones are lost. */
const HELD_MAX = 4_096;

export interface RelayCounts {
  passed: number;
  lost: number;
  cut: number;
  repeated: number;
  delayed: number;
}

class Link {
  /** Where the process was last heard from. */
  private processPort = 0;

  constructor(
    private readonly relay: Relay,
    readonly socket: Socket,
    readonly process: string,
    readonly replica: number,
    private readonly replicaPort: number,
  ) {
    socket.on('message', (bytes, { port }) => this.onMessage(bytes, port));
    socket.on('error', () => undefined); // a dead process refuses, and the datagram is lost
  }

  get port(): number {
    return this.socket.address().port;
  }

  private onMessage(bytes: Buffer, from: number): void {
    if (from === this.replicaPort) {
      if (this.processPort !== 0)
        this.relay.carry(bytes, this.socket, this.processPort, `${this.replica}>${this.process}`);
      return;
    }
    this.processPort = from;
    this.relay.carry(bytes, this.socket, this.replicaPort, `${this.process}>${this.replica}`);
  }
}

export class Relay {
  readonly counts: RelayCounts = { passed: 0, lost: 0, cut: 0, repeated: 0, delayed: 0 };
  private readonly links: Link[] = [];
  /** By direction, `from>to`: a replica's index, or a client's name. Directions that are missing have fair weather. */
  private readonly weather = new Map<string, Weather>();
  private general: Weather = FAIR;
  private held = 0;
  private closed = false;

  constructor(private readonly random: Random) {}

  /**
   * Opens a link from a process to each of the other replicas. Returns the addresses by which the process is to know
   * them.
   */
  async connect(process: string, replicas: readonly string[]): Promise<readonly string[]> {
    return Promise.all(
      replicas.map(async (address, replica) => {
        if (String(replica) === process) return address;
        const socket = createSocket({ type: 'udp4', recvBufferSize: 1 << 20 });
        await new Promise<void>((resolve, reject) =>
          socket.once('error', reject).bind(0, '127.0.0.1', () => resolve()),
        );
        socket.removeAllListeners('error');
        const link = new Link(this, socket, process, replica, Number(address.split(':')[1]));
        this.links.push(link);
        return `127.0.0.1:${link.port}`;
      }),
    );
  }

  /** Weather of all directions without their own. */
  setGeneral(weather: Weather): void {
    this.general = weather;
  }

  /** Of one direction. */
  set(from: string, to: string, weather: Weather): void {
    this.weather.set(`${from}>${to}`, weather);
  }

  /** Fair everywhere. */
  heal(): void {
    this.weather.clear();
    this.general = FAIR;
  }

  carry(bytes: Buffer, by: Socket, to: number, direction: string): void {
    const { random, counts } = this;
    const weather = this.weather.get(direction) ?? this.general;
    if (weather.cut) {
      counts.cut++;
      return;
    }
    if (weather.loss > 0 && random.chance(weather.loss)) {
      counts.lost++;
      return;
    }
    if (weather.duplication > 0 && random.chance(weather.duplication)) {
      counts.repeated++;
      this.later(bytes, by, to, random.between(0, weather.delayMsMax));
    }
    if (weather.delayed > 0 && random.chance(weather.delayed)) {
      counts.delayed++;
      this.later(bytes, by, to, random.between(1, weather.delayMsMax));
      return;
    }
    this.send(bytes, by, to);
  }

  async close(): Promise<void> {
    this.closed = true;
    await Promise.all(this.links.map(({ socket }) => new Promise<void>((resolve) => socket.close(() => resolve()))));
  }

  /** A cut that begins meanwhile does not stop datagrams in flight, as on a network. */
  private later(bytes: Buffer, by: Socket, to: number, ms: number): void {
    if (this.held === HELD_MAX) {
      this.counts.lost++;
      return;
    }
    this.held++;
    setTimeout(() => {
      this.held--;
      this.send(bytes, by, to);
    }, ms);
  }

  private send(bytes: Buffer, by: Socket, to: number): void {
    if (this.closed) return;
    this.counts.passed++;
    by.send(bytes, to, '127.0.0.1');
  }
}
