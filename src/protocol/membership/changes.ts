/**
 * What an entry with RequestFlag.configure changes, by the log alone.
 *
 * Rule S, *C1* (`Step` in JITReconfig.tla; mutations `twopending` and `lastwins`): the first valid Change behind an epoch
 * that has begun decides the next one. Until that has begun as well (`Go`), every other Change is refused. So at most one
 * is open, and what is decided is never decided anew.
 *
 * Rule S, part of *C7*: an id is given once, to one identity. No voter is without one once voters change.
 *
 * A primary changes nothing by itself but the epoch: `Go`, and the same voters for the next epoch (replica/membership/).
 *
 * An entry that is not valid changes nothing, and its result says why.
 */
import { EPOCH_MAX, SLOTS } from '../configuration.js';
import { ID_MAX } from '../../wire/host-ids.js';
import { hostOf, type ListedHost, type Membership } from './membership.js';
import type { ConfigureOperation } from './operations.js';

/** What became of an operation, as its result says. */
export const Outcome = {
  done: 0,
  /** Another host, or this one, has that identity; the result has its id. */
  identityListed: 1,
  /** Another host is listed with that address; the result has its id. */
  addressListed: 2,
  /** 31 hosts are listed, or there is no id any more. */
  noRoom: 3,
  notListed: 4,
  /** It votes, or will: it can leave by a Change only. */
  votes: 5,
  /** Another epoch runs than the Change is for. */
  epochMismatch: 6,
  /** A Change is decided, and its epoch has not begun. */
  changePending: 7,
  /** The identity of a listed host is not known. */
  identityUnknown: 8,
} as const;
export type OutcomeCode = (typeof Outcome)[keyof typeof Outcome];

export interface Changed {
  readonly outcome: OutcomeCode;
  /** The host that it is about; ID_MAX + 1: none. */
  readonly id: number;
  /** The same object if nothing changed. */
  readonly membership: Membership;
}

/**
 * @param index of the entry
 * @param byPrimary it is of session 0, which only a view's primary writes
 */
export function change(before: Membership, operation: ConfigureOperation, index: number, byPrimary: boolean): Changed {
  const refused = (outcome: OutcomeCode, id = ID_MAX + 1): Changed => ({ outcome, id, membership: before });
  const done = (id: number, changes: Partial<Membership>): Changed => ({
    outcome: Outcome.done,
    id,
    membership: { ...before, ...changes, index },
  });
  const isOfPrimary = operation.kind === 'go' || (operation.kind === 'change' && byPrimary);
  if (isOfPrimary !== byPrimary) return refused(Outcome.epochMismatch);
  switch (operation.kind) {
    case 'learn': {
      const { address, identityHi, identityLo } = operation;
      const same = before.hosts.find((host) => host.identityHi === identityHi && host.identityLo === identityLo);
      if (same !== undefined) return refused(Outcome.identityListed, same.id);
      const there = before.hosts.find((host) => host.address === address);
      if (there !== undefined) return refused(Outcome.addressListed, there.id);
      if (!areNamed(before)) return refused(Outcome.identityUnknown);
      const id = before.nextId;
      const slot = freeSlot(before);
      if (id > ID_MAX || slot < 0) return refused(Outcome.noRoom);
      return done(id, { hosts: [...before.hosts, { id, slot, identityHi, identityLo, address }], nextId: id + 1 });
    }
    case 'forget': {
      const { id } = operation;
      if (hostOf(before, id) === undefined) return refused(Outcome.notListed);
      if (before.voters.includes(id) || before.nextVoters.includes(id)) return refused(Outcome.votes, id);
      return done(id, { hosts: before.hosts.filter((host) => host.id !== id) });
    }
    case 'move': {
      const { id, address } = operation;
      if (hostOf(before, id) === undefined) return refused(Outcome.notListed);
      const there = before.hosts.find((host) => host.address === address && host.id !== id);
      if (there !== undefined) return refused(Outcome.addressListed, there.id);
      return done(id, { hosts: withHost(before, id, { address }) });
    }
    case 'name': {
      const { id, address, identityHi, identityLo } = operation;
      const host = hostOf(before, id);
      if (host === undefined) return refused(Outcome.notListed);
      const same = before.hosts.find((one) => one.identityHi === identityHi && one.identityLo === identityLo);
      if (same !== undefined || (host.identityHi | host.identityLo) !== 0)
        return refused(Outcome.identityListed, same === undefined ? id : same.id);
      const there = before.hosts.find((one) => one.address === address && one.id !== id);
      if (there !== undefined) return refused(Outcome.addressListed, there.id);
      return done(id, { hosts: withHost(before, id, { address, identityHi, identityLo }) });
    }
    case 'change': {
      const { from, to, ids } = operation;
      if (before.decided !== before.started) return refused(Outcome.changePending);
      if (from !== before.started || to <= from || to > EPOCH_MAX) return refused(Outcome.epochMismatch);
      // The same voters again, because the views of the epoch are used up: nobody is new.
      if (byPrimary && ids.join() !== before.voters.join()) return refused(Outcome.epochMismatch);
      if (!byPrimary && !areNamed(before)) return refused(Outcome.identityUnknown);
      const missing = ids.find((id) => hostOf(before, id) === undefined);
      if (missing !== undefined) return refused(Outcome.notListed, missing);
      return done(ID_MAX + 1, { decided: to, nextVoters: ids });
    }
    case 'go': {
      const { epoch } = operation;
      if (epoch !== before.decided || epoch <= before.started) return refused(Outcome.epochMismatch);
      const { voters, nextVoters } = before;
      return done(ID_MAX + 1, {
        started: epoch,
        voters: nextVoters,
        hosts: before.hosts.filter(({ id }) => !voters.includes(id) || nextVoters.includes(id)),
      });
    }
  }
}

function areNamed({ hosts }: Membership): boolean {
  return hosts.every(({ identityHi, identityLo }) => (identityHi | identityLo) !== 0);
}

function withHost({ hosts }: Membership, id: number, changes: Partial<ListedHost>): ListedHost[] {
  return hosts.map((host) => (host.id === id ? { ...host, ...changes } : host));
}

/** The lowest slot without a host; −1: there is none. */
function freeSlot({ hosts }: Membership): number {
  for (let slot = 0; slot < SLOTS; slot++) if (hosts.every((host) => host.slot !== slot)) return slot;
  return -1;
}
