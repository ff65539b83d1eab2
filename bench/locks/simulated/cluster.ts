/**
 * A simulated cluster with client processes: network, clocks and processes on one queue of events. The code of the clients
 * is written with promises; it runs to its next wait before time passes, so the same seed always gives the same run.
 */
import { SimulatedClock } from '../../../src/sim/clock.js';
import { EventQueue, type EventHandler } from '../../../src/sim/event-queue.js';
import { SimulationHasher } from '../../../src/sim/hash.js';
import { Network, type Datagram, type NetworkConditions } from '../../../src/sim/network.js';
import type { Random } from '../../../src/sim/random.js';
import type { ReplicaHost } from '../../../src/sim/replica-host.js';
import { WireEnd } from '../../../src/sim/wire-end.js';
import { HOST_PLACES } from '../../../src/wire/host-ids.js';
import { SimulatedClient, type ClientAround } from './client.js';
import { REPLICAS, replicaHost, type ReplicaOptions } from './replicas.js';

export class SimulatedCluster implements EventHandler {
  readonly queue = new EventQueue();
  readonly network: Network;
  readonly replicas: ReplicaHost[] = [];
  /** By endpoint less HOST_PLACES. */
  readonly clients: SimulatedClient[] = [];
  /** By endpoint. */
  readonly clocks: SimulatedClock[] = [];
  /** Promises were settled: `settle` before the next step. */
  isTouched = false;
  private readonly hasher = new SimulationHasher();
  private readonly endpoints: number;

  /** See ClientAround. */
  inPhase = false;

  /** @param clients processes at most */
  constructor(
    private readonly random: Random,
    clients: number,
    conditions: NetworkConditions,
  ) {
    this.endpoints = HOST_PLACES + clients;
    this.network = new Network(this.queue, random.fork('network'), this.endpoints, conditions, (datagram) =>
      this.deliver(datagram),
    );
  }

  /** A clock that is off by `offNs`. */
  addClock(endpoint: number, offNs: () => number): void {
    const { random } = this;
    const clock = new SimulatedClock(random.between(0, 1e9), (random.unit() - 0.5) * 100);
    clock.set(offNs(), 0);
    this.clocks[endpoint] = clock;
  }

  /** It has a clock by now. */
  startReplica(id: number, options?: ReplicaOptions): void {
    const around = { ...this.around(id), random: this.random.fork(`replica ${id}`), hasher: this.hasher };
    const host = replicaHost(id, around, options);
    this.replicas.push(host);
    host.start();
  }

  /** It has a clock by now. @param aheadNs its requests are stamped by this much ahead */
  startClient(i: number, aheadNs = 0): SimulatedClient {
    const around: ClientAround = {
      ...this.around(HOST_PLACES + i),
      random: this.random.fork(`client ${i}`),
      inPhase: this.inPhase,
      touched: () => {
        this.isTouched = true;
      },
    };
    return (this.clients[i] = new SimulatedClient(HOST_PLACES + i, around, aheadNs));
  }

  /** The code that waits for promises runs to its next wait, before time passes. */
  async settle(): Promise<void> {
    while (this.isTouched) {
      this.isTouched = false;
      await new Promise((resolve) => setImmediate(resolve));
    }
  }

  handle(_kind: number, payload: unknown): void {
    (payload as () => void)();
  }

  later(us: number, run: () => void): void {
    this.queue.schedule(this.queue.nowUs + us, this, 0, run);
  }

  /** Place of the primary of the newest view. */
  get primary(): number {
    return Math.max(0, ...this.replicas.map(({ core }) => core?.state.view ?? 0)) % REPLICAS;
  }

  /** One process, and these replicas or all, do not hear each other for a while. */
  cut(endpoint: number, us: number, others: readonly number[] = this.replicas.map(({ id }) => id)): void {
    const set = (isCut: boolean): void => {
      for (const id of others) {
        if (id === endpoint) continue;
        this.network.setBlocked(endpoint, id, isCut);
        this.network.setBlocked(id, endpoint, isCut);
      }
    };
    set(true);
    this.later(us, () => set(false));
  }

  private around(endpoint: number) {
    const cluster = { idHi: 1, idLo: 2, replicas: HOST_PLACES, endpoints: this.endpoints };
    return {
      queue: this.queue,
      network: this.network,
      clock: this.clocks[endpoint]!,
      wire: new WireEnd(endpoint, this.hasher, cluster, undefined),
    };
  }

  private deliver(datagram: Datagram): void {
    const to = this.network.endpointOf(datagram.to);
    const process = to < HOST_PLACES ? this.replicas[to] : this.clients[to - HOST_PLACES];
    if (process === undefined) this.network.release(datagram);
    else process.arrive(datagram);
  }
}
