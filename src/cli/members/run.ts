/**
 * Carries out a change of the members: looks, does the next step (plan.ts), and looks again, until it is done or refused,
 * or the time is up. It can be killed at any moment, and run again.
 *
 * A refusal that rests on somebody's silence counts only if it stays for a while: a replica that was busy, or is being
 * started, is not dead.
 */
import { CliError } from '../../console/exit.js';
import { JitPaxosError, type CommandErrorCode } from '../../errors.js';
import { Outcome } from '../../protocol/membership/changes.js';
import type { ConfigureOperation } from '../../protocol/membership/operations.js';
import { OUTCOME_NAMES, type ChangeResult } from '../../protocol/membership/results.js';
import type { MemberList } from '../../wire/member-list.js';
import { nextStep, type Next, type HostSeen, type MemberRequest, type Seen } from './plan.js';

/** The cluster, as the tool sees and changes it. */
export interface MembersInReach {
  /** A sentence if it cannot be told who the members are. @param began the epoch that ran at the first look */
  look(request: MemberRequest, began: number | undefined): Promise<Seen | string>;
  switchOn(): Promise<void>;
  /** Undefined: what became of it is not known. */
  change(operation: ConfigureOperation): Promise<ChangeResult | undefined>;
}

export interface RunOptions {
  readonly timeoutMs: number;
  /** How long a refusal that may pass has to stay. */
  readonly patienceMs: number;
  readonly nowMs: () => number;
  readonly sleep: (ms: number) => Promise<unknown>;
  readonly done: (says: string) => void;
  readonly waits: (
    says: string,
    copies: { readonly id: number; readonly host: HostSeen | undefined } | undefined,
  ) => void;
}

/** Time between two looks. */
const LOOK_MS = 200;
/** What passes within this time is not worth telling. */
const SOON_MS = 1_000;

/** The code for what the log says of an operation that it does not take. */
const REFUSED: Readonly<Record<Exclude<keyof typeof Outcome, 'done'>, CommandErrorCode>> = {
  identityListed: 'member-listed',
  addressListed: 'member-listed',
  noRoom: 'members-count',
  notListed: 'member-unlisted',
  votes: 'member-alive',
  epochMismatch: 'epoch-mismatch',
  changePending: 'change-pending',
  identityUnknown: 'member-unreachable',
};

/**
 * Resolves with the members when it is done, and what to tell. Rejects with CliError: a refusal, or `members-not-decided`
 * when the time is up; JitPaxosError `cluster-unavailable` if nobody answers for that long; and with the errors of
 * `cluster`.
 */
export async function runChange(
  request: MemberRequest,
  cluster: MembersInReach,
  options: RunOptions,
): Promise<{ readonly says: string; readonly list: MemberList }> {
  const { nowMs, patienceMs, timeoutMs } = options;
  const untilMs = nowMs() + timeoutMs;
  let began: number | undefined;
  /** When the first step could have been done. */
  let firstMs: number | undefined;
  /** Since when nobody says who the members are. */
  let silentMs: number | undefined;
  let refused: { readonly code: CommandErrorCode; readonly sinceMs: number } | undefined;
  /** The operation that the log did not take the last time. */
  let futile: string | undefined;
  /** The last step, and the list behind which it was done. */
  let last: { readonly operation: ConfigureOperation; readonly index: number } | undefined;
  let doneMs = -Infinity;
  /** Hosts that have no way back since. */
  const gone = new Set<number>();
  for (;;) {
    const looked = await cluster.look(request, began);
    const seen =
      typeof looked === 'string' || last === undefined || !isOlder(looked.list, last, nowMs() - doneMs < patienceMs)
        ? looked
        : 'the hosts that answer do not know yet of the last step';
    const isLate = nowMs() >= untilMs;
    if (typeof seen === 'string') {
      const isSilent = typeof looked === 'string';
      if (isLate && !isSilent) throw notDecided(timeoutMs, seen, gone);
      if (isSilent) silentMs ??= nowMs();
      if (isSilent && (isLate || nowMs() - silentMs! >= patienceMs))
        throw new JitPaxosError(
          'cluster-unavailable',
          `${seen}${began === undefined ? '. If the members are at other addresses by now, take a newer cluster file (jitpaxos member list --write FILE, where one is known)' : `; ${leaves(gone)}`}`,
        );
      if (isSilent || nowMs() - doneMs >= SOON_MS) options.waits(seen, undefined);
      await options.sleep(LOOK_MS);
      continue;
    }
    silentMs = undefined;
    began ??= seen.list.started;
    const next = nextStep(request, seen);
    if (next.kind === 'done') return { says: next.says, list: seen.list };
    if (next.kind === 'refuse') {
      const { code, why, mayPass } = next;
      if (refused?.code !== code) refused = { code, sinceMs: nowMs() };
      const forMs = nowMs() - refused.sinceMs;
      if (!mayPass || forMs >= (mayPass === 'soon' ? SOON_MS : patienceMs)) throw new CliError(code, why);
      if (forMs >= SOON_MS)
        options.waits(`waits for up to ${Math.ceil(patienceMs / 1e3)} s, since this may pass: ${why}`, undefined);
      await options.sleep(LOOK_MS);
      continue;
    }
    refused = undefined;
    // Plan.ts refuses to replace a host that is well. One that was busy for a moment is well.
    firstMs ??= nowMs();
    if (request.kind === 'replace' && !request.alive && isStep(next) && nowMs() - firstMs < patienceMs) {
      const how = seen.hosts.has(request.id) ? 'does not serve' : 'does not answer';
      options.waits(
        `host ${request.id} ${how}: waits whether that lasts ${Math.ceil(patienceMs / 1e3)} s (--silence)`,
        undefined,
      );
      await options.sleep(LOOK_MS);
      continue;
    }
    if (isLate)
      throw notDecided(timeoutMs, next.kind === 'switch-on' ? 'the feature membership is off' : next.says, gone);
    if (next.kind === 'wait') {
      options.waits(next.says, next.copies);
      await options.sleep(LOOK_MS);
    } else if (next.kind === 'switch-on') {
      await cluster.switchOn();
      options.done('the feature membership is on');
    } else {
      const text = JSON.stringify(next.operation);
      const result = await cluster.change(next.operation).catch((error: unknown) => {
        if (!isRefused(error) || futile === text) throw error;
        return 'refused' as const;
      });
      if (result !== undefined && result !== 'refused') {
        if (result.outcome === Outcome.done) {
          futile = undefined;
          last = { operation: next.operation, index: seen.list.index };
          doneMs = nowMs();
          if (next.gone !== undefined) gone.add(next.gone);
          options.done(next.says);
          continue;
        }
        if (futile === text) throw refusalOf(next.operation, result);
      }
      // What was seen was not the newest: it is looked at again. Not for ever.
      if (result !== undefined) futile = text;
      await options.sleep(LOOK_MS);
    }
  }
}

function isStep({ kind }: Next): boolean {
  return kind === 'switch-on' || kind === 'send';
}

/**
 * The list is from before this step. Its index alone does not say: another operator's entry may stand between the list
 * that the step was planned from and the step. What another operator has undone never shows, so that counts for a while.
 */
function isOlder(
  list: MemberList,
  { operation, index }: { readonly operation: ConfigureOperation; readonly index: number },
  mayBeLate: boolean,
): boolean {
  return list.index <= index || (mayBeLate && !shows(list, operation));
}

/** The list has what the operation brings. */
function shows({ hosts, decided }: MemberList, operation: ConfigureOperation): boolean {
  switch (operation.kind) {
    case 'learn':
      return hosts.some(({ address }) => address === operation.address);
    case 'name':
      return hosts.every(({ id, identity }) => id !== operation.id || identity !== undefined);
    case 'move':
      return hosts.every(({ id, address }) => id !== operation.id || address === operation.address);
    case 'forget':
      return hosts.every(({ id }) => id !== operation.id);
    case 'change':
      return decided >= operation.to;
    case 'go':
      return true; // replicas send it
  }
}

/** The primary does not take the operation: it may be in another epoch than was seen. */
function isRefused(error: unknown): boolean {
  return error instanceof JitPaxosError && error.code === 'operation-refused';
}

function refusalOf({ kind }: ConfigureOperation, { outcome, id, started, decided }: ChangeResult): CliError {
  const name = Object.keys(Outcome)[outcome] as keyof typeof REFUSED;
  const epochs = decided > started ? `epoch ${started} runs, and ${decided} is decided` : `epoch ${started} runs`;
  return new CliError(
    REFUSED[name],
    `the log refuses the ${kind}: ${OUTCOME_NAMES[outcome]}${id === undefined ? '' : ` (host ${id})`}, and ${epochs}; look with jitpaxos member list, and run this again if it is still wanted`,
  );
}

function notDecided(timeoutMs: number, says: string, gone: ReadonlySet<number>): CliError {
  return new CliError(
    'members-not-decided',
    `not done within ${Math.round(timeoutMs / 1e3)} s: ${says}; ${leaves(gone)}`,
  );
}

/** How it is when a command ends before the change does. */
function leaves(gone: ReadonlySet<number>): string {
  const ids = [...gone];
  return ids.length === 0
    ? 'nothing is half done: the same command goes on where it is'
    : `host${ids.length === 1 ? '' : 's'} ${ids.join(', ')} can no longer return, so run the same command again: it goes on where it is`;
}
