/** A closed loop of reads, writes and compare-and-sets on a few keys, whose history is kept for the checker. */
import type { KvClient } from '../src/client/kv-client.js';
import { RecordedKv, type KvOperation } from '../src/measure/load/recorded-kv.js';

const KEYS = 64;

/** Closed-loop clients on one connection, and what they saw. */
export class RecordedLoad {
  readonly recorded = new RecordedKv();
  readonly commitsMs: number[] = [];
  unknown = 0;
  private running = true;
  private nextValue = 0;
  private readonly done: Promise<void>[] = [];

  /** @param thinkMs pause between two operations of a process: the load should not starve what is measured */
  constructor(
    private readonly kv: KvClient,
    private readonly random: () => number,
    private readonly thinkMs: number,
    private readonly timeoutMs: number,
  ) {}

  start(processes: number): void {
    for (let i = 0; i < processes; i++) this.done.push(this.process());
  }

  async stop(): Promise<void> {
    this.running = false;
    await Promise.all(this.done);
  }

  private async process(): Promise<void> {
    let id = this.recorded.newProcess();
    while (this.running) {
      const key = `k${Math.floor(this.random() * KEYS)}`;
      const draw = this.random();
      const value = `v${this.nextValue++}`;
      const operation: KvOperation =
        draw < 0.5
          ? { f: 'read', key }
          : draw < 0.9
            ? { f: 'write', key, value }
            : { f: 'cas', key, compare: null, value };
      if ((await this.recorded.run(this.kv, id, operation, this.timeoutMs)) !== undefined) {
        this.commitsMs.push(performance.now());
      } else {
        this.unknown++;
        id = this.recorded.newProcess();
      }
      await new Promise((resolve) => setTimeout(resolve, this.thinkMs));
    }
  }
}
