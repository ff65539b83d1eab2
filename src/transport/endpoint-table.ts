/**
 * Numbers for addresses. Replicas have their index; another sender gets a number when its first datagram arrives.
 *
 * The rule: a number stands for one address. The table is bounded. The least recently used address makes room for a new
 * one, which then gets a *new* number: `replicas + slot + capacity · generation`. A slot's generation rises with each
 * reuse. So an answer to a number whose address is gone is dropped, not sent to a stranger. Numbers stay in the int32
 * range (small integers in V8). With the full capacity a slot's numbers therefore repeat after 32,767 reuses, which is
 * after two billion other addresses. If a host still held the first number then, it would send one datagram to the
 * wrong client, which ignores it because it is not for its session.
 *
 * A lookup compares the port, by which the slots are chained, and then the address. It builds no string.
 */
export class EndpointTable {
  evicted = 0;
  private readonly hosts: (string | undefined)[];
  private readonly ports: Uint16Array;
  private readonly generations: Int32Array;
  /** First slot of each port, or −1. The next array has the next slot with the same port. */
  private readonly firstOfPort = new Int32Array(65_536).fill(-1);
  private readonly nextOfPort: Int32Array;
  /** The slots by last use, most recent first: a ring through `capacity`, which is not a real slot. */
  private readonly newer: Int32Array;
  private readonly older: Int32Array;
  private readonly maxGeneration: number;
  private used = 0;

  /**
   * @param replicas numbers below this belong to replicas
   * @param capacity most addresses at once, a power of two up to 65,536
   */
  constructor(
    private readonly replicas: number,
    private readonly capacity: number,
  ) {
    if (!Number.isInteger(capacity) || capacity < 1 || capacity > 65_536 || (capacity & (capacity - 1)) !== 0) {
      throw new RangeError(`an endpoint table has a power of two of slots up to 65536, not ${capacity}`);
    }
    this.hosts = new Array<string | undefined>(capacity).fill(undefined);
    this.ports = new Uint16Array(capacity);
    this.generations = new Int32Array(capacity);
    this.nextOfPort = new Int32Array(capacity);
    this.newer = new Int32Array(capacity + 1).fill(capacity);
    this.older = new Int32Array(capacity + 1).fill(capacity);
    this.maxGeneration = Math.floor((0x7fffffff - replicas - capacity) / capacity);
  }

  /** The number of addresses that are known now. */
  get size(): number {
    return this.used;
  }

  /** The number of an address, which gets a new one if it has none. Marks the address as used. */
  intern(host: string, port: number): number {
    const known = this.find(host, port);
    if (known >= 0) return known;
    const slot = this.used < this.capacity ? this.used++ : this.evictOldest();
    this.hosts[slot] = host;
    this.ports[slot] = port;
    this.nextOfPort[slot] = this.firstOfPort[port]!;
    this.firstOfPort[port] = slot;
    this.linkNewest(slot);
    return this.numberOf(slot);
  }

  /** The number of an address, or −1 if it has none. Marks the address as used. */
  find(host: string, port: number): number {
    for (let slot = this.firstOfPort[port]!; slot >= 0; slot = this.nextOfPort[slot]!) {
      if (this.hosts[slot] === host) {
        this.touch(slot);
        return this.numberOf(slot);
      }
    }
    return -1;
  }

  /** The slot of a number that still stands for an address, or −1. `hostOf` and `portOf` give the address. */
  slotOf(endpoint: number): number {
    const serial = endpoint - this.replicas;
    if (serial < 0) return -1;
    const slot = serial & (this.capacity - 1);
    return this.hosts[slot] !== undefined && this.numberOf(slot) === endpoint ? slot : -1;
  }

  hostOf(slot: number): string {
    return this.hosts[slot]!;
  }

  portOf(slot: number): number {
    return this.ports[slot]!;
  }

  private numberOf(slot: number): number {
    return this.replicas + slot + this.capacity * this.generations[slot]!;
  }

  private touch(slot: number): void {
    const root = this.capacity;
    if (this.older[root] === slot) return;
    this.unlink(slot);
    this.linkNewest(slot);
  }

  private unlink(slot: number): void {
    const newer = this.newer[slot]!;
    const older = this.older[slot]!;
    this.older[newer] = older;
    this.newer[older] = newer;
  }

  private linkNewest(slot: number): void {
    const root = this.capacity;
    const second = this.older[root]!;
    this.older[root] = slot;
    this.newer[slot] = root;
    this.older[slot] = second;
    this.newer[second] = slot;
  }

  private evictOldest(): number {
    const slot = this.newer[this.capacity]!;
    this.unlink(slot);
    const port = this.ports[slot]!;
    let at = this.firstOfPort[port]!;
    if (at === slot) {
      this.firstOfPort[port] = this.nextOfPort[slot]!;
    } else {
      while (this.nextOfPort[at] !== slot) at = this.nextOfPort[at]!;
      this.nextOfPort[at] = this.nextOfPort[slot]!;
    }
    this.generations[slot] = this.generations[slot]! >= this.maxGeneration ? 0 : this.generations[slot]! + 1;
    this.evicted++;
    return slot;
  }
}
