/** The owner of a sender without a key, and of a session that names nobody (session-owner.ts). */
export const NO_OWNER = 0;
