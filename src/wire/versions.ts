/**
 * The versions of the wire. A process writes and reads this one and the one before it, so that a cluster can be upgraded,
 * or taken back, one process at a time; docs/internals/decisions/versions.md says how two of them find out which they share.
 *
 * A new version is made by raising both numbers, dropping what was marked `until` the one that falls out, and marking
 * what is new in the tables of messages.ts with `since`.
 */
export const WIRE_VERSION = 4;
export const PREVIOUS_WIRE_VERSION = 3;
