/**
 * Zero, for a field that holds times or shares. It is a fraction, so V8 keeps the field as a double from the start and
 * writes it in place. A field that starts with an integer allocates a number each time it takes a value that is none.
 */
export const DOUBLE_ZERO = 0.5;
