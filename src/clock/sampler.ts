/**
 * Where samples come from: a PTP hardware clock, or the system clock when there is no device any more.
 *
 * A device is asked in the best way that it offers (native/phc.cc). Which one that is, is found out once, when it is
 * opened: drivers answer EOPNOTSUPP, old kernels ENOTTY, to what they lack.
 */
import type { NativeAddon, PhcCapabilities, PhcHandle } from '../native/addon.js';
import { ClockError } from './errors.js';
import { errnoName, explainOpen, isTransient, patiently, type SystemCallError } from './native-clock.js';
import type { PhcSample } from './phc-filter.js';

/** Best first; the numbers of native/phc.cc. */
const SAMPLE_METHODS = { precise: 1, extended: 2, offset: 3, gettime: 4 } as const;

export type SampleMethod = keyof typeof SAMPLE_METHODS;

/** Readings a sample; the narrowest is kept. */
const READINGS = 5;
/** A sample that was disturbed is taken again so often. */
const ATTEMPTS = 3;
/** libuv calls EOPNOTSUPP by its other name. */
const LACKING = new Set(['ENOTSUP', 'ENOTTY', 'EINVAL', 'ENOSYS']);

export interface Sampler {
  /** `phc:/dev/ptp0` or `realtime`. */
  readonly source: string;
  readonly method: string;
  /** Undefined when every attempt was disturbed, or the device had no time. Throws ClockError `clock-lost` when the device is gone. */
  sample(): PhcSample | undefined;
  close(): void;
}

export class PhcSampler implements Sampler {
  readonly source: string;
  /** Why the last sample gave nothing, in a few words. */
  hindrance = '';
  private readonly out = new BigInt64Array(3);

  private constructor(
    readonly path: string,
    private readonly handle: PhcHandle,
    readonly method: SampleMethod,
  ) {
    this.source = `phc:${path}`;
  }

  /** Throws ClockError as openClock does for a device, and `clock-lost`. */
  static open(addon: NativeAddon, path: string): PhcSampler {
    let handle: PhcHandle;
    try {
      handle = patiently(() => new addon.PhcHandle(path))!; // which reads it once
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
      `${path} answers none of ${Object.keys(SAMPLE_METHODS).join(', ')}: it is no PTP clock; \`ls /dev/ptp*\` lists them`,
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

  /** Undefined when the driver does not tell. */
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

/** CLOCK_REALTIME in place of a device. */
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
