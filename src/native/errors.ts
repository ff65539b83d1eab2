/**
 * How a bad argument is refused where the addon would have refused it: the same classes, codes and properties as
 * native/arguments.cc, so that it makes no difference to a caller which of the two is running.
 */

/** A RangeError with `code`, `category` and `retryable`. `message` names what is out of bounds and what would be inside. */
export function outOfBounds(message: string): RangeError {
  return Object.assign(new RangeError(message), { code: 'out-of-bounds', category: 'caller', retryable: false });
}

/** A TypeError with `code`, `category` and `retryable`. */
export function invalidArgument(message: string): TypeError {
  return Object.assign(new TypeError(message), { code: 'invalid-argument', category: 'caller', retryable: false });
}

/** Whether `width` elements from `offset` on lie inside `capacity`; false for anything but whole numbers from 0 on. */
export function fits(capacity: number, offset: number, width: number): boolean {
  return (
    Number.isSafeInteger(offset) &&
    Number.isSafeInteger(width) &&
    offset >= 0 &&
    width >= 0 &&
    offset + width <= capacity
  );
}
