/**
 * Refuses bad arguments like the addon does, with the same classes, codes and properties as native/arguments.cc, so
 * that callers see no difference between the two.
 */

/**
 * A RangeError with `code`, `category` and `retryable`. `message` names what is out of bounds and what would be in
 * bounds.
 */
export function outOfBounds(message: string): RangeError {
  return Object.assign(new RangeError(message), { code: 'out-of-bounds', category: 'caller', retryable: false });
}

/** A TypeError with `code`, `category` and `retryable`. */
export function invalidArgument(message: string): TypeError {
  return Object.assign(new TypeError(message), { code: 'invalid-argument', category: 'caller', retryable: false });
}

/** Whether `width` elements from `offset` on lie inside `capacity`; false unless all are whole numbers from 0 on. */
export function fits(capacity: number, offset: number, width: number): boolean {
  return (
    Number.isSafeInteger(offset) &&
    Number.isSafeInteger(width) &&
    offset >= 0 &&
    width >= 0 &&
    offset + width <= capacity
  );
}
