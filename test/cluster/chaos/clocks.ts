/**
 * The clocks of a chaos run: every replica reads a hardware clock of its own, the stand-in of test/native/fake-ptp.c, which
 * can be set off, made to drift and taken away while the replica runs.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Random } from '../../../src/sim/random.js';
import { Model } from '../../clock/model.js';
import { compileStandIn, whyNoStandIn } from '../../clock/stand-in.js';

const DEVICE = '/dev/ptp-model';
const FAIR = { offsetNs: 0n, driftPpb: 0n, driftFromRawNs: 0n, gone: 0n } as const;
/** Offsets are drawn evenly by their logarithm: from here on … */
const OFFSET_NS_MIN = 1e3;
/** … to an hour. */
const OFFSET_NS_MAX = 3.6e12;

export class Clocks {
  private readonly models: Model[];

  private constructor(
    private readonly directory: string,
    private readonly library: string,
    replicas: number,
    /** As `jitpaxos replica --clock` takes it: asked for each reading, or sampled and extrapolated. */
    readonly spec: string,
  ) {
    this.models = Array.from({ length: replicas }, (_, id) => new Model(join(directory, `clock-${id}`)));
  }

  /** Clocks for so many replicas; or why there are none here. */
  static make(replicas: number, random: Random): Clocks | string {
    const why = whyNoStandIn();
    if (why !== false) return why;
    const directory = mkdtempSync(join(tmpdir(), 'jitpaxos-clocks-'));
    try {
      return new Clocks(directory, compileStandIn(directory), replicas, `${random.pick(['phc', 'disciplined'])}:${DEVICE}`);
    } catch (error) {
      rmSync(directory, { recursive: true, force: true });
      throw error;
    }
  }

  environment(id: number): NodeJS.ProcessEnv {
    return { LD_PRELOAD: this.library, FAKE_PTP_MODEL: this.models[id]!.path };
  }

  /** Does something to a replica's clock; what, in a few words. */
  disturb(id: number, random: Random): string {
    const model = this.models[id]!;
    const draw = random.unit();
    if (draw < 0.15) {
      model.set({ gone: 1n });
      return 'gone';
    }
    if (draw < 0.4) {
      const ppm = random.between(-5_000, 5_000);
      model.set({ driftPpb: BigInt(ppm * 1_000), driftFromRawNs: process.hrtime.bigint() });
      return `drifts by ${ppm} ppm`;
    }
    const offsetNs = Math.round(OFFSET_NS_MIN * Math.pow(OFFSET_NS_MAX / OFFSET_NS_MIN, random.unit())) * (random.chance(0.5) ? 1 : -1);
    model.set({ offsetNs: BigInt(offsetNs) });
    return `off by ${(offsetNs / 1e6).toFixed(3)} ms`;
  }

  mend(id: number): void {
    this.models[id]!.set(FAIR);
  }

  close(): void {
    rmSync(this.directory, { recursive: true, force: true });
  }
}
