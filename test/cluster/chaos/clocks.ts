/**
 * The clocks of a chaos run. Every replica reads its own hardware clock, the stand-in of test/native/fake-ptp.c, which
 * can be set off, made to drift and taken away while the replica runs. In half of the runs all clocks of all hosts,
 * system clocks included, are ahead at the start, as if by one wrong time server, and are set right in the middle.
 * Clients follow the replicas' clocks meanwhile, so the log is ahead of all clocks from then on.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Random } from '../../../src/sim/random.js';
import { Model } from '../../clock/model.js';
import { compileStandIn, whyNoStandIn } from '../../clock/stand-in.js';

const DEVICE = '/dev/ptp-model';
const FAIR = { offsetNs: 0n, driftPpb: 0n, driftFromRawNs: 0n, gone: 0n } as const;
/** Smallest offset, ns; offsets are drawn evenly by their logarithm. */
const OFFSET_NS_MIN = 1e3;
/** Largest offset: an hour. */
const OFFSET_NS_MAX = 3.6e12;
/** Least lead of all clocks at the start: more than a replica accepts as not too far ahead. */
const AHEAD_NS_MIN = 1e9;

export class Clocks {
  private readonly models: Model[];

  private constructor(
    private readonly directory: string,
    private readonly library: string,
    replicas: number,
    /** In the form that `jitpaxos replica --clock` takes: asked for each reading, or sampled and extrapolated. */
    readonly spec: string,
    /** How far all clocks are ahead at the start; 0: not at all. */
    readonly aheadNs: number,
  ) {
    this.models = Array.from(
      { length: replicas },
      (_, id) => new Model(join(directory, `clock-${id}`), { hostAheadNs: BigInt(aheadNs) }),
    );
  }

  /**
   * Clocks for this many replicas, all of them ahead at the start or not; or the reason why they are not possible here.
   */
  static make(replicas: number, ahead: boolean, random: Random): Clocks | string {
    const why = whyNoStandIn();
    if (why !== false) return why;
    const directory = mkdtempSync(join(tmpdir(), 'jitpaxos-clocks-'));
    try {
      return new Clocks(
        directory,
        compileStandIn(directory),
        replicas,
        `${random.pick(['phc', 'disciplined'])}:${DEVICE}`,
        ahead ? between(AHEAD_NS_MIN, OFFSET_NS_MAX, random) : 0,
      );
    } catch (error) {
      rmSync(directory, { recursive: true, force: true });
      throw error;
    }
  }

  environment(id: number): NodeJS.ProcessEnv {
    return { LD_PRELOAD: this.library, FAKE_PTP_MODEL: this.models[id]!.path };
  }

  /** Disturbs a replica's clock; returns what it did, in a few words. */
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
    const offsetNs = between(OFFSET_NS_MIN, OFFSET_NS_MAX, random) * (random.chance(0.5) ? 1 : -1);
    model.set({ offsetNs: BigInt(offsetNs) });
    return `off by ${(offsetNs / 1e6).toFixed(3)} ms`;
  }

  mend(id: number): void {
    this.models[id]!.set(FAIR);
  }

  /** All clocks of all hosts that were ahead return to the right time. */
  setRight(): void {
    for (const model of this.models) model.set({ hostAheadNs: 0n });
  }

  close(): void {
    rmSync(this.directory, { recursive: true, force: true });
  }
}

/** Drawn evenly by its logarithm, whole ns. */
function between(min: number, max: number, random: Random): number {
  return Math.round(min * (max / min) ** random.unit());
}
