/**
 * Watches that clients asked for and have not confirmed: who asked, and the token that was given.
 *
 * The rule: nothing is sent for a watch before its client has said a token that this replica has drawn for it, so that a
 * Watch that somebody recorded and sends again opens nothing. A token serves once. Each owner has a bounded number of
 * openings; a new one takes the place of its oldest one.
 */
export const OPENINGS_PER_OWNER = 256;
/** Owners that are remembered. The one that opened something longest ago is forgotten. */
export const OPENING_OWNERS = 256;

interface Opening {
  readonly endpoint: number;
  readonly id: number;
  readonly token: number;
  readonly givenUs: number;
}

export class Openings {
  /** By the group of an owner, in the order of last use. */
  private readonly groups = new Map<number, Opening[]>();

  /** @param draw 32 random bits, not 0 */
  constructor(private readonly draw: () => number) {}

  /** The token to give; the same as before if the client asks again. */
  tokenFor(group: number, endpoint: number, id: number, nowUs: number): number {
    const openings = this.groups.get(group) ?? [];
    this.groups.delete(group);
    this.groups.set(group, openings);
    if (this.groups.size > OPENING_OWNERS) this.groups.delete(this.groups.keys().next().value!);
    const given = openings.find((opening) => opening.endpoint === endpoint && opening.id === id);
    if (given !== undefined) return given.token;
    if (openings.length === OPENINGS_PER_OWNER) openings.shift();
    const token = this.draw();
    openings.push({ endpoint, id, token, givenUs: nowUs });
    return token;
  }

  /** When this token was given for this watch, µs; it is then used up. −1: it was not. */
  take(group: number, endpoint: number, id: number, token: number): number {
    const openings = this.groups.get(group);
    const index =
      openings?.findIndex((opening) => opening.id === id && opening.endpoint === endpoint && opening.token === token) ??
      -1;
    return index < 0 ? -1 : openings!.splice(index, 1)[0]!.givenUs;
  }
}
