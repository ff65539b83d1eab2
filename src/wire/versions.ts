/**
 * The versions of the wire. A process writes and reads this version and the one before it, so a cluster can be
 * upgraded, or downgraded, one process at a time. docs/internals/decisions/versions.md says how two processes find out
 * which versions they share.
 *
 * To make a new version, raise both numbers. Drop the fields that are marked `until` the version that is no longer
 * spoken. Mark new fields and messages in the tables of messages.ts with `since`.
 */
export const WIRE_VERSION = 5;
export const PREVIOUS_WIRE_VERSION = 4;
/**
 * The version that brings members that change. Rule S: once they can, who speaks only an older one is not heard: a client
 * would count the acknowledgements of another epoch by the quorum that it knows.
 */
export const MEMBERS_WIRE_VERSION = 5;
