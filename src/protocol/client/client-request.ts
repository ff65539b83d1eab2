/** State of a client's request, by slot. */

export const State = { idle: 0, write: 1, read: 2 } as const;

/**
 * What a request has needed so far: one round trip; one and a half, when a member differed and the primary's order, pushed to
 * it, set that right without the client doing anything; reconciled, when the client had to ask that member to fetch the
 * primary's entry; more, once anything was sent again, stamped anew, or sent in another view.
 */
export const Pace = { more: 0, one: 1, oneAndAHalf: 2, reconciled: 3 } as const;
