/** What can be wrong with a clock. Each code names one situation, and each message says what to do about it. */
import { JitPaxosError, type ErrorCode } from '../errors.js';

export type ClockErrorCode = Extract<ErrorCode, `clock-${string}`>;

/** `message` names the clock and the cure; `cause` is the system's own error, if there is one. */
export class ClockError extends JitPaxosError {
  override readonly name = 'ClockError';
  declare readonly code: ClockErrorCode;

  constructor(code: ClockErrorCode, message: string, cause?: unknown) {
    super(code, message, cause);
  }
}
