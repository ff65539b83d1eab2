/**
 * Ways to break the rules of the protocol, one in each mutation (mutation.ts): a useful simulator must notice them. Those
 * of view changes and of a return after a crash are in view-mutations.ts.
 */
import type { ClientCore } from '../../src/protocol/client/client-core.js';
import { ArrivedRequest } from '../../src/protocol/replica/arrived-request.js';
import type { ReplicaCore } from '../../src/protocol/replica/replica-core.js';
import { REGISTER_LANE } from '../../src/protocol/log/sessions.js';
import { NO_RESULT } from '../../src/protocol/replica/message-writer.js';
import { Chunk, Order, RejectReason, RequestFlag, ReplyStatus } from '../../src/wire/messages.js';
import { addHi, addLo, compareU64, readI32, readIndex, writeI32 } from '../../src/wire/u64.js';
import type { Mutation } from './mutation.js';
import { VIEW_MUTATIONS } from './view-mutations.js';

export const MUTATIONS: readonly Mutation[] = [
  // The commit rule, at the client.
  {
    name: 'commit-with-f-acks',
    breaks: 'a client commits with the answers of f members, the primary included',
    client: commitWithFAcks,
  },
  {
    name: 'index-without-chain',
    breaks: 'a client compares the indexes of acknowledgements, not the chains',
    client: compareIndexes,
  },
  {
    name: 'acks-of-two-views',
    breaks: 'acknowledgements of an older view count in a newer one',
    client: keepAcksAcrossViews,
  },
  { name: 'read-from-one-member', breaks: 'a quorum read believes the primary alone', client: readFromPrimary },
  {
    name: 'retry-under-new-number',
    breaks: 'a request that is sent again gets a new number',
    client: retryUnderNewNumber,
  },

  // Appending and acknowledging.
  {
    name: 'equal-timestamps',
    breaks: 'an entry may carry the timestamp of the one before it, whatever the sessions',
    replica: acceptEqualTimestamps,
  },
  {
    name: 'equal-timestamp-is-duplicate',
    breaks: 'a request with the timestamp of the last entry is acknowledged as that entry (as published)',
    replica: equalTimestampIsDuplicate,
  },
  { name: 'older-key', breaks: 'a request whose key is below the last one is appended', replica: acceptOlderKey },
  {
    name: 'no-at-most-once',
    breaks: 'neither admission nor execution looks whether the request was there before',
    replica: noAtMostOnce,
  },
  {
    name: 'admission-forgets-executed',
    breaks: 'admission looks at the log that was not executed yet, not at the session table',
    replica: admissionForgetsExecuted,
  },
  {
    name: 'evicted-session-returns',
    breaks: 'a Register brings an evicted session back, with no memory of its requests',
    replica: readmitEvicted,
  },
  {
    name: 'member-restamps-register',
    breaks: 'a member stamps a late Register anew, and then what is late of its session',
    replica: memberRestampsRegister,
  },
  {
    name: 'primary-restamps-evicted',
    breaks:
      'the primary stamps a late Register anew without looking at the horizon, and members what is late of its session',
    replica: primaryRestampsEvicted,
  },
  {
    name: 'reconcile-without-comparing',
    breaks: 'a member says ok to a Reconcile when it has the request at that index, under any chain',
    replica: reconcileWithoutComparing,
  },

  // Repair and synchronization.
  {
    name: 'replace-log-on-repair',
    breaks: 'a repair leaves nothing behind its end, though it matched',
    replica: replaceLogOnRepair,
  },
  {
    name: 'splice-unfiltered-tail',
    breaks: 'a repair is put in front of the old tail as it was (as published)',
    replica: spliceUnfilteredTail,
  },
  {
    name: 'keep-requests-twice',
    breaks: 'the kept tail is filtered by key, not by request',
    replica: keepRequestsTwice,
  },
  {
    name: 'sync-index-without-chain',
    breaks: 'a member takes a Sync to match when its log is as long',
    replica: syncIndexWithoutChain,
  },
  {
    name: 'synced-beyond-segment',
    breaks: "after a repair all of the log counts as the primary's (as published)",
    replica: syncedBeyondSegment,
  },
  {
    name: 'repair-from-unchecked-base',
    breaks: 'entries of a Chunk are applied behind its base, whatever chain the log has there',
    replica: repairFromUncheckedBase,
  },
  {
    name: 'commit-without-members',
    breaks: 'the primary takes for committed what one member less has',
    replica: commitWithoutMembers,
  },
  {
    name: 'uncommitted-snapshot',
    breaks: 'a snapshot counts as stable before its index is committed',
    replica: uncommittedSnapshot,
  },
  {
    name: 'pieces-after-rollback',
    breaks: 'a snapshot in pieces goes on after the state that it began with was taken back',
    replica: keepPieces,
  },
  {
    name: 'copy-forgets-changes',
    breaks: 'a session that changes while it is copied is copied as it is then',
    replica: copyForgetsChanges,
  },

  // Features.
  {
    name: 'switch-features-late',
    breaks: 'a replica with an odd number switches features on one entry late',
    replica: switchFeaturesLate,
  },
  {
    name: 'forget-features',
    breaks: 'a replica that takes a state from a snapshot does not take its features',
    replica: forgetFeatures,
  },

  // The primary's order.
  {
    name: 'order-without-chain',
    breaks: 'an Order is applied and confirmed without comparing chains',
    replica: orderWithoutChain,
  },
  {
    name: 'order-of-another-view',
    breaks: 'an Order of an older view counts in this one',
    replica: orderOfAnotherView,
  },
  {
    name: 'answer-before-verified',
    breaks: 'a member answers the clients that an Order names before it has the entries',
    replica: answerBeforeVerified,
  },
  {
    name: 'cache-returns-another-request',
    breaks: 'the cache knows requests by session alone, and the chain of what it gives is not compared',
    replica: cacheReturnsAnother,
  },
  {
    name: 'restamp-with-equal-key',
    breaks: 'primary and members restamp a late request with the timestamp of the last entry',
    replica: restampWithEqualKey,
  },

  ...VIEW_MUTATIONS,
];

function commitWithFAcks(core: ClientCore): void {
  const rule = core['rule'];
  const settle = core['settle'];
  const { missing } = rule;
  core['settle'] = (slot, now) => {
    rule.missing = (of) => {
      const views = rule['views'];
      const members = views.members(rule.view).filter((r) => r !== rule.primary);
      const agreeing = members.filter((r) => rule.acks.agrees(of, r)).length;
      return agreeing >= views.f - 1 ? 0 : missing.call(rule, of);
    };
    settle.call(core, slot, now);
    rule.missing = missing;
  };
}

function compareIndexes(core: ClientCore): void {
  const { acks } = core['rule'];
  acks.agrees = (slot, replica) => {
    const of = slot * (acks['counts'].length / acks['slots']) + acks['ranks'][replica]!;
    const count = Math.min(acks['counts'][of]!, 4);
    for (let at = of * 4; at < of * 4 + count; at++) if (acks['indexes'][at] === acks.primaryIndex(slot)) return true;
    return false;
  };
}

function keepAcksAcrossViews(core: ClientCore): void {
  const learnView = core['learnView'];
  const slots = core['slots'];
  const { acks } = core['rule'];
  const { clear } = acks;
  const { forgetAnswers } = slots;
  core['learnView'] = (view, from, now) => {
    acks.clear = () => {};
    slots.forgetAnswers = () => {};
    learnView.call(core, view, from, now);
    acks.clear = clear;
    slots.forgetAnswers = forgetAnswers;
  };
}

function readFromPrimary(core: ClientCore): void {
  const onReadReply = core['onReadReply'];
  const { acks } = core['rule'];
  core['onReadReply'] = (bytes, o, from, now) => {
    const { agrees } = acks;
    acks.agrees = () => true;
    onReadReply.call(core, bytes, o, from, now);
    acks.agrees = agrees;
  };
}

function retryUnderNewNumber(core: ClientCore): void {
  const again = core['again'];
  const slots = core['slots'];
  core['again'] = (slot, now) => {
    // Not the registration, whose number is not in the session table.
    if (slot < slots.lanes && slots.isWrite(slot)) {
      slots.useUp(slot, slots.requestOf(slot) + 1);
      slots.forgetAnswers(slot);
      core['rule'].forget(slot);
      core['timestamps'].stamp(slot, 0, now);
    }
    again.call(core, slot, now);
  };
}

function acceptEqualTimestamps(core: ReplicaCore): void {
  const { log } = core.state;
  log.compareToLast = (timestampHi, timestampLo) =>
    compareU64(timestampHi, timestampLo, log.timestampHi(log.lastIndex), log.timestampLo(log.lastIndex)) < 0 ? -1 : 1;
}

function equalTimestampIsDuplicate(core: ReplicaCore): void {
  const requests = core['requests'];
  const append = requests['append'];
  const { log, execution } = core.state;
  requests['append'] = (arrived, misplaced, now) => {
    const last = log.lastIndex;
    if (
      last > log.baseIndex &&
      compareU64(arrived.timestampHi, arrived.timestampLo, log.timestampHi(last), log.timestampLo(last)) === 0
    ) {
      const result = core.state.isPrimary ? execution.reply : NO_RESULT;
      arrived.slackUs = 0;
      requests['answers'].reply(arrived, ReplyStatus.ok, last, log.chainHi(last), log.chainLo(last), result);
      return;
    }
    append.call(requests, arrived, misplaced, now);
  };
}

function acceptOlderKey(core: ReplicaCore): void {
  core.state.log.compareToLast = () => 1;
}

function noAtMostOnce(core: ReplicaCore): void {
  core['requests']['known'].isKnown = () => false;
  const { execution } = core.state;
  const execute = execution['execute'];
  execution['execute'] = (index) => {
    const { log } = core.state;
    const session = execution.sessions.find(log.sessionHi(index), log.sessionLo(index));
    if (session !== undefined && (log.flags(index) & RequestFlag.register) === 0 && log.lane(index) < session.lanes)
      session.request[log.lane(index)] = 0;
    execute.call(execution, index);
  };
}

function admissionForgetsExecuted(core: ReplicaCore): void {
  const known = core['requests']['known'];
  const isKnown = known.isKnown;
  known.isKnown = (arrived, session, newest) =>
    isKnown.call(known, arrived, arrived.isRegister ? session : undefined, newest);
}

function readmitEvicted(core: ReplicaCore): void {
  core.state.execution.sessions.mayBeEvicted = () => false;
}

/** Restamps late requests if `also` says so, whatever the session table and the rule for late ones say. */
function restampAlso(core: ReplicaCore, also: (late: ArrivedRequest) => boolean): void {
  const restamping = core['requests']['restamping'];
  const restamp = restamping.restamp;
  const { log } = core.state;
  restamping.restamp = (arrived, reason, now) => {
    if (reason !== RejectReason.late || !also(arrived)) return restamp.call(restamping, arrived, reason, now);
    const last = log.lastIndex;
    arrived.stamp(addHi(log.timestampHi(last), log.timestampLo(last), 1), addLo(log.timestampLo(last), 1));
    return true;
  };
}

/** Whether a session's Register is in the log but was not executed. */
function isUnexecuted(core: ReplicaCore, late: ArrivedRequest): boolean {
  return (
    core['requests']['restamping']['lateGetOne'] &&
    core.state.execution.sessions.find(late.sessionHi, late.sessionLo) === undefined
  );
}

function memberRestampsRegister(core: ReplicaCore): void {
  restampAlso(core, (late) => (late.lane === REGISTER_LANE ? !core.state.isPrimary : isUnexecuted(core, late)));
}

function primaryRestampsEvicted(core: ReplicaCore): void {
  core['requests']['restamping']['mayRegister'] = () => true;
  restampAlso(core, (late) => late.lane !== REGISTER_LANE && isUnexecuted(core, late));
}

function reconcileWithoutComparing(core: ReplicaCore): void {
  const requests = core['requests'];
  const known = requests['known'];
  const acknowledgeAt = known.acknowledgeAt;
  const { log } = core.state;
  known.acknowledgeAt = (named, index, chainHi, chainLo) => {
    const same =
      log.has(index) &&
      log.request(index) === named.request &&
      log.lane(index) === named.lane &&
      log.sessionHi(index) === named.sessionHi &&
      log.sessionLo(index) === named.sessionLo;
    if (!same) return acknowledgeAt.call(known, named, index, chainHi, chainLo);
    requests['answers'].reply(named, ReplyStatus.ok, index, chainHi, chainLo, NO_RESULT);
    return true;
  };
}

function replaceLogOnRepair(core: ReplicaCore): void {
  const repair = core['repair'];
  const { apply, settle } = repair;
  let end = -1;
  repair.apply = (...segment) => (end = apply.apply(repair, segment));
  repair.settle = (quiet) => {
    const agrees = settle.call(repair, quiet);
    if (end >= core.state.committed) core.state.truncate(end);
    end = -1;
    return agrees;
  };
}

/** Puts back every kept request for which `mayGoBack` is true. */
function putBackWhere(core: ReplicaCore, mayGoBack: (slot: number) => boolean): void {
  const tail = core['repair']['tail'];
  const { log } = core.state;
  const putBack = tail.putBack;
  tail.putBack = () => {
    const { compareToLast } = log;
    const own = tail['mayGoBack'];
    // The log's own assertion is left out, so that the checks notice what is put back.
    tail['mayGoBack'] = (slot) => {
      const may = mayGoBack(slot);
      if (may) log.compareToLast = () => 1;
      return may;
    };
    putBack.call(tail);
    log.compareToLast = compareToLast;
    tail['mayGoBack'] = own;
  };
}

function spliceUnfilteredTail(core: ReplicaCore): void {
  putBackWhere(core, () => true);
}

function keepRequestsTwice(core: ReplicaCore): void {
  const { log } = core.state;
  const { cache } = core['repair'];
  const compareToLast = log.compareToLast;
  putBackWhere(
    core,
    (slot) =>
      compareToLast.call(
        log,
        cache.timestampHi[slot]!,
        cache.timestampLo[slot]!,
        cache.sessionHi[slot]!,
        cache.sessionLo[slot]!,
      ) > 0,
  );
}

function syncIndexWithoutChain(core: ReplicaCore): void {
  const synchronization = core['synchronization'];
  const onSync = synchronization.onSync;
  const { log } = core.state;
  synchronization.onSync = (bytes, o, from, now) => {
    const { matches } = log;
    log.matches = (index) => index >= log.baseIndex && index <= log.lastIndex;
    onSync.call(synchronization, bytes, o, from, now);
    log.matches = matches;
  };
}

function syncedBeyondSegment(core: ReplicaCore): void {
  const repair = core['repair'];
  const { confirm, apply, settle } = repair;
  let applied = false;
  repair.apply = (...segment) => {
    applied = true;
    return apply.apply(repair, segment);
  };
  repair.settle = (quiet) => {
    const agrees = settle.call(repair, quiet);
    if (applied) confirm.call(repair, core.state.log.lastIndex);
    applied = false;
    return agrees;
  };
}

function repairFromUncheckedBase(core: ReplicaCore): void {
  const synchronization = core['synchronization'];
  const onChunk = synchronization.onChunk;
  const { log } = core.state;
  synchronization.onChunk = (bytes, o, from, now) => {
    const at = Chunk.at;
    const base = readIndex(bytes, o + at.baseIndex);
    if (base >= log.baseIndex && base <= log.lastIndex) {
      writeI32(bytes, o + at.baseChain, log.chainHi(base));
      writeI32(bytes, o + at.baseChain + 4, log.chainLo(base));
    }
    onChunk.call(synchronization, bytes, o, from, now);
  };
}

function commitWithoutMembers(core: ReplicaCore): void {
  const { state } = core;
  const { commitIndex } = core['synchronization'];
  const advance = commitIndex.advance;
  commitIndex.advance = () => {
    advance.call(commitIndex);
    const matched = state.views
      .members(state.view)
      .filter((r) => r !== state.id)
      .map((r) => commitIndex.matched[r]!);
    matched.sort((a, b) => a - b);
    state.commitTo(Math.min(state.log.lastIndex, matched[1] ?? state.log.lastIndex));
  };
}

function uncommittedSnapshot(core: ReplicaCore): void {
  const took = core.state.execution['took'];
  core.state.execution['took'] = (snapshot) => took.call(core.state.execution, snapshot, Infinity);
}

function copyForgetsChanges(core: ReplicaCore): void {
  core.state.execution.sessions.copy.changes = () => undefined;
}

function keepPieces(core: ReplicaCore): void {
  core.state.execution.unfinished.abort = () => undefined;
}

function orderWithoutChain(core: ReplicaCore): void {
  const repair = core['repair'];
  const { log } = core.state;
  const take = repair.take;
  repair.take = (bytes, o, quiet) => {
    const { matches } = log;
    log.matches = (index) => index >= log.baseIndex && index <= log.lastIndex;
    const done = take.call(repair, bytes, o, quiet);
    log.matches = matches;
    return done;
  };
}

function orderOfAnotherView(core: ReplicaCore): void {
  const synchronization = core['synchronization'];
  const onOrder = synchronization.onOrder;
  const { state } = core;
  synchronization.onOrder = (bytes, o, from, now) => {
    if (readI32(bytes, o + Order.at.view) > state.view) return;
    writeI32(bytes, o + Order.at.view, state.view);
    onOrder.call(synchronization, bytes, o, from === state.id ? from : state.primary, now);
  };
}

function answerBeforeVerified(core: ReplicaCore): void {
  const repair = core['repair'];
  const { cache } = repair;
  const order = repair['order'];
  const answers = repair['answers'];
  const settle = repair.settle;
  const named = new ArrivedRequest();
  repair.settle = (quiet) => {
    for (let index = order.base + 1; index <= order.end; index++) {
      order.pointAt(index, named);
      named.stampedHi = named.timestampHi;
      named.stampedLo = named.timestampLo;
      const slot = cache.find(named.sessionHi, named.sessionLo, named.lane, named.request);
      const to =
        slot >= 0
          ? cache.replyTo[slot]!
          : (core.state.execution.sessions.find(named.sessionHi, named.sessionLo)?.replyTo ?? -1);
      if (to < 0) continue;
      named.replyTo = to;
      answers.reply(named, ReplyStatus.ok, index, order.chainHi(index), order.chainLo(index), NO_RESULT);
    }
    return settle.call(repair, quiet);
  };
}

function cacheReturnsAnother(core: ReplicaCore): void {
  const repair = core['repair'];
  const { cache } = repair;
  const order = repair['order'];
  const find = cache.find;
  const slotOf = repair['slotOf'];
  const place = repair['place'];
  repair['slotOf'] = (index) => {
    cache.find = (sessionHi, sessionLo) => {
      for (let number = cache.end - 1; number >= cache.from(0); number--) {
        const slot = cache.slotOf(number);
        if (slot >= 0 && cache.sessionHi[slot] === sessionHi && cache.sessionLo[slot] === sessionLo) return slot;
      }
      return -1;
    };
    const slot = slotOf.call(repair, index);
    cache.find = find;
    return slot;
  };
  repair['place'] = (index, slot) => {
    order.standsIn = () => true;
    const placed = place.call(repair, index, slot);
    Reflect.deleteProperty(order, 'standsIn');
    return placed;
  };
}

function restampWithEqualKey(core: ReplicaCore): void {
  const requests = core['requests'];
  const restamping = requests['restamping'];
  const { log } = core.state;
  restamping.restamp = () => false;
  const misplaced = requests['misplaced'];
  requests['misplaced'] = (arrived, reason, now) => {
    if (!restamping['lateGetOne'] || arrived.lane === REGISTER_LANE)
      return misplaced.call(requests, arrived, reason, now);
    const { compareToLast } = log;
    log.compareToLast = () => 1;
    arrived.stamp(log.timestampHi(log.lastIndex), log.timestampLo(log.lastIndex));
    requests['append'](arrived, 0, now);
    log.compareToLast = compareToLast;
  };
}

/** The next entry is still executed without them. */
function switchFeaturesLate(core: ReplicaCore): void {
  if (core.state.id % 2 === 0) return;
  const { execution } = core.state;
  const execute = execution['execute'].bind(execution);
  const setFeatures = execution['setFeatures'].bind(execution);
  let due: number | undefined;
  let executes = false;
  execution['setFeatures'] = (features) => {
    due = executes ? features : undefined;
    if (!executes) setFeatures(features);
  };
  execution['execute'] = (index) => {
    const features = due;
    due = undefined;
    executes = true;
    execute(index);
    executes = false;
    if (features !== undefined) setFeatures(features);
  };
}

function forgetFeatures(core: ReplicaCore): void {
  const { execution } = core.state;
  const restored = execution['restored'].bind(execution);
  const setFeatures = execution['setFeatures'].bind(execution);
  execution['restored'] = (snapshot) => {
    execution['setFeatures'] = () => undefined;
    restored(snapshot);
    execution['setFeatures'] = setFeatures;
  };
}
