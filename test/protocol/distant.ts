/**
 * A cluster whose hosts change, in virtual time: messages take a while, and so does each write of a disk. A client has a
 * request open in each of its lanes, always. It answers how long nothing is committed.
 */
import { encodeMembership } from '../../src/protocol/membership/membership.js';
import type { PersistBatch } from '../../src/protocol/contract.js';
import { Changing } from './changing.js';
import { decode, type Packet, type TestClient, type TestReplica } from './harness.js';

/** Time passes in steps of this. */
const STEP_US = 100;
const LANES = 4;

interface Due<T> {
  readonly atUs: number;
  readonly what: T;
}

export class Distant extends Changing {
  /** One way; and one write of a disk. */
  wayUs = 0;
  writeUs = 0;
  /** What a write of this replica's disk takes in addition. */
  readonly slowerUs = new Map<TestReplica, number>();
  /** The longest time without a commit since `watch`, µs. */
  longestUs = 0;
  private onTheWay: Due<Packet>[] | undefined;
  private readonly writes = new Map<TestReplica, number[]>();
  private readonly questions: Due<number>[] = [];
  private loading: TestClient | undefined;
  private committed = 0;
  private committedUs = 0;

  /** From now on. */
  slow(wayUs: number, writeUs: number): void {
    this.wayUs = wayUs;
    this.writeUs = writeUs;
    this.onTheWay = [];
    for (const replica of this.replicas) this.slowDisk(replica);
  }

  /** The client that has a request open in each of its lanes. */
  get loader(): TestClient {
    return this.loading!;
  }

  /** A client begins. */
  load(): void {
    this.loading = this.client(LANES, {}, {}, true);
    this.loading.register();
    this.run(100_000);
  }

  /** Counts the time without commits anew. */
  watch(): void {
    this.longestUs = 0;
    this.committedUs = this.now.monotonicUs;
  }

  override join(): number {
    const slot = super.join();
    if (this.onTheWay !== undefined) this.slowDisk(this.replica(slot));
    return slot;
  }

  override post(from: number, to: number, bytes: Uint8Array): void {
    if (this.onTheWay === undefined) {
      super.post(from, to, bytes);
      return;
    }
    const packet: Packet = { from, to, bytes, ...decode(bytes) };
    this.history.push(packet);
    if (!this.loses(packet)) this.onTheWay.push({ atUs: this.now.monotonicUs + this.wayUs, what: packet });
  }

  override run(us: number): void {
    if (this.onTheWay === undefined) {
      super.run(us);
      return;
    }
    for (let left = us; left > 0; left -= STEP_US) {
      this.pass(STEP_US);
      const nowUs = this.now.monotonicUs;
      for (const [replica, due] of this.writes)
        while (due.length > 0 && due[0]! <= nowUs) {
          due.shift();
          replica.disk.releaseFirst();
          replica.core.flush(this.now);
        }
      while (this.onTheWay.length > 0 && this.onTheWay[0]!.atUs <= nowUs) this.arrive(this.onTheWay.shift()!.what);
      this.follow(nowUs);
    }
  }

  /** What the client's host does, and its application. */
  private follow(nowUs: number): void {
    const { loading: client, questions } = this;
    if (client === undefined || client.registrations.length === 0) return;
    for (const asked of client.asked.splice(0)) questions.push({ atUs: nowUs + 2 * this.wayUs, what: asked });
    while (questions.length > 0 && questions[0]!.atUs <= nowUs) {
      const { members } = this.replica(questions.shift()!.what).state;
      client.core.takeMembers(encodeMembership(members), this.now);
    }
    for (let lane = 0; lane < LANES; lane++) if (client.core.isIdle(lane)) client.submit('x', lane);
    const { length } = client.completions;
    this.longestUs = Math.max(this.longestUs, nowUs - this.committedUs);
    if (length > this.committed) this.committedUs = nowUs;
    this.committed = length;
  }

  private slowDisk(replica: TestReplica): void {
    const { disk } = replica;
    const due: number[] = [];
    this.writes.set(replica, due);
    disk.held = true;
    const persist = disk.persist.bind(disk);
    disk.persist = (token: number, batch: PersistBatch) => {
      persist(token, batch);
      const us = this.writeUs + (this.slowerUs.get(replica) ?? 0);
      due.push(Math.max(this.now.monotonicUs, due.at(-1) ?? 0) + us);
    };
  }
}
