/** Hands what the network delivers to the endpoint that it is for, and keeps the digest of all of it. */
import { readI32 } from '../wire/u64.js';
import type { EventHandler } from './event-queue.js';
import type { Datagram } from './network.js';
import type { Parts } from './parts.js';
import type { Random } from './random.js';

/** Offset of the first bytes of the checksum in a sealed datagram (wire/envelope.ts): they stand for its contents. */
const AT_CHECKSUM = 25;

export class Delivery {
  /** All faults have ended: from now on a host reports only a process that is gone. */
  healed = false;
  private digestHi = 0x243f6a88;
  private digestLo = 0x13198a2e;

  /** @param random decides whether a host reports that no process listens */
  constructor(
    private readonly parts: Parts,
    private readonly random: Random,
  ) {}

  /** Over every datagram delivered so far, with its time and ends. */
  get digest(): string {
    return (this.digestHi >>> 0).toString(16).padStart(8, '0') + (this.digestLo >>> 0).toString(16).padStart(8, '0');
  }

  deliver(datagram: Datagram): void {
    const { queue, network, plan, replicas, hosts, clients, enemy, operator, memberOperator } = this.parts;
    const { from, to, bytes } = datagram;
    this.digestHi = Math.imul(this.digestHi ^ queue.nowUs, 0x01000193) ^ (from << 8) ^ to;
    this.digestLo = (Math.imul(this.digestLo, 31) + readI32(bytes, AT_CHECKSUM) + this.digestHi) | 0;
    const endpoint = network.endpointOf(to);
    if (to < replicas) {
      const host = hosts[to]!;
      const chance = !host.isUp ? plan.unreachable : this.healed ? 0 : plan.falselyUnreachable;
      if (chance > 0 && this.random.chance(chance))
        queue.schedule(queue.nowUs + plan.network.delayUs, this.said, to, network.endpointOf(from));
      host.arrive(datagram);
    } else if (endpoint === enemy?.endpoint) enemy.arrive(datagram);
    else if (endpoint === operator?.endpoint) operator.arrive(datagram);
    else if (endpoint === memberOperator?.endpoint) memberOperator.arrive(datagram);
    else clients[endpoint - replicas]!.arrive(datagram);
  }

  /** The report that no process listens reaches the endpoint whose datagram caused it. */
  private readonly said: EventHandler = {
    handle: (by, to) => {
      const { queue, trace, replicas, endpoints, hosts, clients } = this.parts;
      const endpoint = to as number;
      trace?.note(queue.nowUs, endpoint, `is told that nobody listens at ${by}`);
      if (endpoint < replicas) hosts[endpoint]!.unreachable(by);
      else if (endpoint < endpoints) clients[endpoint - replicas]!.unreachable(by);
    },
  };
}
