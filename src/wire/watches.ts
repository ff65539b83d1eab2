/** What both ends of a watch know, besides its messages. */

/** Prefixes of a watch, and their bytes together. */
export const PREFIXES_MAX = 16;
export const PREFIX_BYTES_MAX = 1024;
/** Length of what stands for a value with the flag `events`. */
export const EVENT_BYTES = 2;
/** In a change: kind, revision, lengths of key and value. */
export const CHANGE_BYTES = 13;
/** Length of a value that is not given. */
export const NO_VALUE = 0xffff;
