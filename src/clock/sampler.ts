/**
 * Where samples come from: a PTP hardware clock, or the system clock when the device is gone.
 *
 * A device is asked by the best method that it offers (native/phc.cc). That method is found once, at opening: for a
 * method that they lack, drivers answer EOPNOTSUPP and old kernels ENOTTY.
 */
import type { NativeAddon, PhcCapabilities, PhcHandle } from '../native/addon.js';
import { ClockError } from './errors.js';
import { errnoName, explainOpen, isTransient, patiently, type SystemCallError } from './native-clock.js';
import type { PhcSample } from './phc-filter.js';

/** Best first; the numbers are those of native/phc.cc. */
const SAMPLE_METHODS = { precise: 1, extended: 2, offset: 3, gettime: 4 } as const;

export type SampleMethod = keyof typeof SAMPLE_METHODS;

/** Readings for each sample; the narrowest is kept. */
const READINGS = 5;
/** Attempts at a sample, if others are disturbed. */
const ATTEMPTS = 3;
/** libuv's name for EOPNOTSUPP is ENOTSUP. */
const LACKING = new Set(['ENOTSUP', 'ENOTTY', 'EINVAL', 'ENOSYS']);

export interface Sampler {
  /** `phc:/dev/ptp0` or `realtime`. */
  readonly source: string;
  readonly method: string;
  /**
   * Undefined if every attempt was disturbed, or the device was busy. Throws ClockError `clock-lost` if the device is
   * gone.
   */
  sample(): PhcSample | undefined;
  close(): void;
}

export class PhcSampler implements Sampler {
  readonly source: string;
  /** Why the last sample failed, in a few words. */
  hindrance = '';
  private readonly out = new BigInt64Array(3);

  private constructor(
    readonly path: string,
    private readonly handle: PhcHandle,
    readonly method: SampleMethod,
  ) {
    this.source = `phc:${path}`;
  }

  /** Throws the ClockErrors of openClock for a device, and `clock-lost`. */
  static open(addon: NativeAddon, path: string): PhcSampler {
    let handle: PhcHandle;
    try {
      handle = patiently(() => new addon.PhcHandle(path))!; // reads the device once
    } catch (error) {
      throw explainOpen(path, error as SystemCallError);
    }
    const probe = new BigInt64Array(3);
    for (const method of Object.keys(SAMPLE_METHODS) as SampleMethod[]) {
      try {
        handle.sample(SAMPLE_METHODS[method], 1, probe);
        return new PhcSampler(path, handle, method);
      } catch (error) {
        const reason = errnoName(error as SystemCallError);
        if (LACKING.has(reason)) continue;
        if (isTransient(error)) return new PhcSampler(path, handle, method);
        handle.close();
        throw lost(path, error);
      }
    }
    handle.close();
    throw new ClockError(
      'clock-not-a-clock',
      `${path} answers none of ${Object.keys(SAMPLE_METHODS).join(', ')}: it is not a PTP clock; \`ls /dev/ptp*\` lists them`,
    );
  }

  sample(): PhcSample | undefined {
    const { out } = this;
    for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
      let taken: boolean;
      try {
        taken = this.handle.sample(SAMPLE_METHODS[this.method], READINGS, out);
      } catch (error) {
        if (!isTransient(error)) throw lost(this.path, error);
        this.hindrance = `it answers ${errnoName(error as SystemCallError)}`;
        continue;
      }
      this.hindrance = 'each was disturbed';
      if (taken) return { raw: out[0]!, device: out[1]!, bracketNs: Number(out[2]!) };
    }
    return undefined;
  }

  /** Undefined if the driver does not tell. */
  capabilities(): PhcCapabilities | undefined {
    try {
      return this.handle.capabilities();
    } catch {
      return undefined;
    }
  }

  close(): void {
    this.handle.close();
  }
}

/** Samples CLOCK_REALTIME when there is no device. */
export class RealtimeSampler implements Sampler {
  readonly source = 'realtime';
  readonly method = 'gettime';

  constructor(private readonly addon: NativeAddon) {}

  sample(): PhcSample {
    const { addon } = this;
    const { realtime, 'monotonic-raw': raw } = addon.systemClocks;
    let best: PhcSample | undefined;
    let before = addon.clockReadBigInt(raw);
    for (let i = 0; i < READINGS; i++) {
      const device = addon.clockReadBigInt(realtime);
      const after = addon.clockReadBigInt(raw);
      const bracketNs = Number(after - before);
      if (best === undefined || bracketNs < best.bracketNs)
        best = { raw: before + (after - before) / 2n, device, bracketNs };
      before = after;
    }
    return best!;
  }

  close(): void {
    // Nothing is open.
  }
}

function lost(path: string, error: unknown): ClockError {
  const reason = errnoName(error as SystemCallError) || (error as Error).message;
  return new ClockError(
    'clock-lost',
    `phc:${path} stopped answering (${reason}): the device was removed or its driver failed; check the network card and dmesg`,
    error,
  );
}
