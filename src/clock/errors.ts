/** What can be wrong with a clock. Each code names one situation and each message says what to do about it. */

/** Who has to act: whoever wrote the call or the configuration, or whoever runs the host. */
export type ClockErrorCategory = 'caller' | 'environment';

interface Traits {
  readonly category: ClockErrorCategory;
  /** The same call may succeed later without anybody changing the program. */
  readonly retryable: boolean;
}

/** Every code with its traits. */
export const CLOCK_ERRORS = {
  /** No such clock device. */
  'clock-not-found': { category: 'environment', retryable: false },
  /** The device exists, and this user may not read it. */
  'clock-permission': { category: 'environment', retryable: false },
  /** The path leads to something that does not tell the time. */
  'clock-not-a-clock': { category: 'environment', retryable: false },
  /** The clock specification is not one of the accepted forms. */
  'clock-spec-invalid': { category: 'caller', retryable: false },
  /** This clock can be read only with the native addon, and that is not there. */
  'clock-addon-missing': { category: 'environment', retryable: false },
  /** Read after close(). */
  'clock-closed': { category: 'caller', retryable: false },
  /** Too many hardware clocks, or too many files, are open. */
  'clock-limit': { category: 'environment', retryable: true },
  /** An open clock stopped answering: the device is gone or its driver failed. */
  'clock-lost': { category: 'environment', retryable: false },
  /** The device tells the time, but not that of any epoch: nobody has set it. */
  'clock-not-set': { category: 'environment', retryable: true },
  /** Opening failed for another reason, which the message gives. */
  'clock-unavailable': { category: 'environment', retryable: true },
} as const satisfies Record<string, Traits>;

export type ClockErrorCode = keyof typeof CLOCK_ERRORS;

/** `message` names the clock and the cure; `cause` is the system's own error, where there is one. */
export class ClockError extends Error {
  override readonly name = 'ClockError';
  readonly code: ClockErrorCode;
  readonly category: ClockErrorCategory;
  readonly retryable: boolean;

  constructor(code: ClockErrorCode, message: string, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.code = code;
    this.category = CLOCK_ERRORS[code].category;
    this.retryable = CLOCK_ERRORS[code].retryable;
  }
}
