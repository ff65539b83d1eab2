/** Rules of the store at level 1, broken one at a time as in mutations.ts, in the machine behind the simulator's probe. */
import { PART_FLAG, Put, STATUS_NOT_FOUND, STATUS_OK } from '../../src/machine/kv-layout.js';
import { Contents } from '../../src/machine/kv-contents.js';
import { KvStore } from '../../src/machine/kv-store.js';
import type { ApplyContext, StateMachine } from '../../src/machine/state-machine.js';
import { Read, READ_BYTES, Renew, RESULT_BYTES } from '../../src/machine/store/layout.js';
import { NumberOrder } from '../../src/machine/store/number-order.js';
import { Instant } from '../../src/protocol/contract.js';
import { KNOWN_FEATURES } from '../../src/protocol/log/features.js';
import type { ReplicaCore } from '../../src/protocol/replica/replica-core.js';
import { KIND_FAULTS, type FaultName } from '../../src/sim/faults.js';
import { MachineProbe } from '../../src/sim/machine-probe.js';
import type { SimulationOptions } from '../../src/sim/assembly.js';
import { Request, typeOf } from '../../src/wire/messages.js';
import { readIndex, readU16 } from '../../src/wire/u64.js';
import { TICKS, type Mutation } from './mutation.js';

/** The runs in which these mutations are looked for. */
export const STORE_RUN: Omit<SimulationOptions, 'seed' | 'replicas'> = {
  ticks: TICKS,
  faults: new Set<FaultName>([...KIND_FAULTS, 'store']),
  features: KNOWN_FEATURES,
  pieces: null,
  undoBytes: 1 << 16,
};

function machineOf(core: ReplicaCore): StateMachine {
  const probe = core.state.execution['machine'];
  if (!(probe instanceof MachineProbe)) throw new TypeError("the simulator's probe");
  return probe['inner'];
}

/** The replica's own time, as of its last call. */
function localTime(core: ReplicaCore): Instant {
  const local = new Instant();
  const take = (now: Instant): void => {
    local.wallHi = now.wallHi;
    local.wallLo = now.wallLo;
  };
  const { start, receive, tick, flush } = core;
  core.start = (recovered, now) => {
    take(now);
    start.call(core, recovered, now);
  };
  core.receive = (bytes, offset, length, from, now, owner) => {
    take(now);
    receive.call(core, bytes, offset, length, from, now, owner);
  };
  core.tick = (now) => {
    take(now);
    tick.call(core, now);
  };
  core.flush = (now) => {
    take(now);
    flush.call(core, now);
  };
  return local;
}

function at(local: Instant, { index }: ApplyContext): ApplyContext {
  return { timestampHi: local.wallHi, timestampLo: local.wallLo, index };
}

function expireByLocalClock(core: ReplicaCore): void {
  const machine = machineOf(core);
  const local = localTime(core);
  const apply = machine.apply.bind(machine);
  machine.apply = (operation, context, reply) => apply(operation, at(local, context), reply);
}

function readByLocalClock(core: ReplicaCore): void {
  const machine = machineOf(core);
  const local = localTime(core);
  const query = machine.query.bind(machine);
  machine.query = (operation, context, reply) => {
    query(operation, context, reply);
    if (operation.bytes[operation.offset] !== Read.opcode || reply.bytes[reply.offset] !== STATUS_OK) return;
    if (reply.length < READ_BYTES) return;
    const end = readIndex(reply.bytes, reply.offset + RESULT_BYTES + 8);
    const nowMs = Number(((BigInt(local.wallHi >>> 0) << 32n) | BigInt(local.wallLo >>> 0)) / 1_000_000n);
    if (end === 0 || end > nowMs) return;
    reply.bytes[reply.offset] = STATUS_NOT_FOUND;
    reply.length = RESULT_BYTES;
  };
}

function undoForgetsAnIndex(core: ReplicaCore): void {
  const machine = machineOf(core);
  const { undoTo } = machine;
  if (undoTo === undefined) return;
  const { insert } = NumberOrder.prototype;
  machine.undoTo = (index) => {
    NumberOrder.prototype.insert = forget;
    try {
      return undoTo.call(machine, index);
    } finally {
      NumberOrder.prototype.insert = insert;
    }
  };
}

/** In place of `insert`. What is not there is not removed later, either: that would take another one for it. */
function forget(this: NumberOrder, first: number, second: number): void {
  const { remove } = this;
  let isForgotten = true;
  this.remove = (ofFirst, ofSecond) => {
    if (isForgotten && ofFirst === first && ofSecond === second) isForgotten = false;
    else remove.call(this, ofFirst, ofSecond);
  };
}

function replayRenewals(core: ReplicaCore): void {
  const machine = machineOf(core);
  const { receive } = core;
  const arrived = new Set<string>();
  const reply = { bytes: new Uint8Array(1024), offset: 0, capacity: 1024, length: 0 };
  core.receive = (bytes, offset, length, from, now, owner) => {
    receive.call(core, bytes, offset, length, from, now, owner);
    if (typeOf(bytes, offset) !== Request.type || bytes[offset + Request.size] !== Renew.opcode) return;
    const request = toHexOf(bytes.subarray(offset + Request.at.session, offset + Request.at.flags));
    const operationLength = readU16(bytes, offset + Request.at.operation);
    if (!arrived.has(request)) arrived.add(request);
    else
      machine.apply(
        { bytes, offset: offset + Request.size, length: operationLength },
        { timestampHi: now.wallHi, timestampLo: now.wallLo, index: core.state.execution.executed },
        reply,
      );
  };
}

function undoLeavesMembers(core: ReplicaCore): void {
  const machine = machineOf(core);
  const { undoTo } = machine;
  if (undoTo === undefined) return;
  const { drop } = Contents.prototype;
  machine.undoTo = (index) => {
    Contents.prototype.drop = function (id, key, offset, length) {
      if ((length & PART_FLAG) === 0) drop.call(this, id, key, offset, length);
    };
    try {
      return undoTo.call(machine, index);
    } finally {
      Contents.prototype.drop = drop;
    }
  };
}

/** All replicas alike. */
function useGenerationsAgain(core: ReplicaCore): void {
  const machine = machineOf(core);
  const apply = machine.apply.bind(machine);
  const { takeNumber } = KvStore.prototype;
  machine.apply = (operation, context, reply) => {
    KvStore.prototype.takeNumber = function () {
      takeNumber.call(this);
      return 1;
    };
    try {
      apply(operation, context, reply);
    } finally {
      KvStore.prototype.takeNumber = takeNumber;
    }
  };
}

/** All replicas alike: they agree with each other, and with a model that is given what they executed. */
function executeOtherBytes(core: ReplicaCore): void {
  const probe = core.state.execution['machine'];
  const { apply } = probe;
  probe.apply = ({ bytes, offset, length }, context, reply) => {
    const other = bytes.slice(offset, offset + length);
    if (other[0] === Put.opcode) other[length - 1] = 0x3f;
    apply.call(probe, { bytes: other, offset: 0, length }, context, reply);
  };
}

const toHexOf = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');

export const STORE_MUTATIONS: readonly Mutation[] = [
  {
    name: 'expire-by-local-clock',
    breaks: 'keys and leases end by the clock of the replica that executes',
    replica: expireByLocalClock,
  },
  {
    name: 'read-by-local-clock',
    breaks: 'a read does not find what has ended by the clock of the replica that answers',
    replica: readByLocalClock,
  },
  {
    name: 'undo-forgets-an-index',
    breaks: 'what is undone has its old end again, and is in no order of ends or leases',
    replica: undoForgetsAnIndex,
  },
  {
    name: 'undo-leaves-members',
    breaks: 'members that undone entries added stay where they are',
    replica: undoLeavesMembers,
  },
  {
    name: 'generations-used-again',
    breaks: 'a new collection has the generation of one that is gone, and takes its members for its own',
    replica: useGenerationsAgain,
  },
  {
    name: 'renewal-replayed',
    breaks: 'a renewal that arrives again extends its lease again',
    replica: replayRenewals,
  },
  {
    name: 'execute-other-bytes',
    breaks: 'all replicas execute a put with another value than its client sent',
    replica: executeOtherBytes,
  },
];
