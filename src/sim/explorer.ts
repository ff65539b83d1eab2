/**
 * Walks *every* order of delivery, loss, timeout, promise and crash of a tiny cluster made of the shipped cores, and
 * checks the simulator's invariants in each state.
 *
 * Cores cannot be copied, so a state is the list of choices that leads to it, replayed from the start. It is recognized
 * by a hash of everything that can influence what follows: the content of the cores, the messages in flight, and the
 * memory of the checks. The walk is breadth first: the first violation found is one of the shortest. Time stands still
 * except when a timeout is chosen, which moves the clock of that one host to its next deadline.
 */
import { CounterMachine } from '../machine/counter.js';
import { DEFAULT_CLIENT_TIMINGS, DEFAULT_TIMINGS, type Limits, type Timings } from '../protocol/config.js';
import {
  Instant,
  Outcome,
  type ClientEvents,
  type HardState,
  type Outbox,
  type Storage,
} from '../protocol/contract.js';
import { Feature } from '../protocol/log/features.js';
import { encodeMembership } from '../protocol/membership/membership.js';
import { encodeOperation, type ConfigureOperation } from '../protocol/membership/operations.js';
import { InvariantError } from '../protocol/invariant.js';
import { begin } from '../wire/layout.js';
import { RequestFlag, ViewChange } from '../wire/messages.js';
import { readIndex, writeI32 } from '../wire/u64.js';
import { Checks } from './checks.js';
import {
  createShippedClient,
  createShippedReplica,
  type CreateClient,
  type CreateReplica,
  type SimulatedClientCore,
  type SimulatedReplicaCore,
} from './cores.js';
import { Fingerprint } from './fingerprint.js';
import { SimulationHasher } from './hash.js';
import type { HistoryEvent } from './history.js';
import { checkHistory, explain } from './linearizability.js';
import { MachineProbe } from './machine-probe.js';
import { formatMessage } from './trace.js';
import { Violation } from './violation.js';

export interface Configuration {
  readonly name: string;
  readonly replicas: number;
  /** Each has a session when the walk begins, and one lane. */
  readonly clients: number;
  /** Increments that each client requests, one after the other; 0: none, only the clients' registrations. */
  readonly requests: number;
  /** How many messages may be lost in one path. */
  readonly losses?: number;
  /** How many messages may be delivered and stay in flight too. */
  readonly duplicates?: number;
  /** How many timeouts may fire in one path, at these endpoints (replicas, then clients). */
  readonly timeouts?: { readonly budget: number; readonly endpoints: readonly number[] };
  /** Views that these replicas may be asked to promise, each once, in this order, at any moment. */
  readonly views?: readonly { readonly view: number; readonly replicas: readonly number[] }[];
  /** The log has decided when the walk begins that these replicas are the voters of epoch 1, and all know it. */
  readonly nextVoters?: readonly number[];
  /** Crashes, each followed by a start without the log. */
  readonly crashes?: { readonly budget: number; readonly replicas: readonly number[] };
}

export interface ExploreOptions {
  /** Longest path, choices; default 200. */
  readonly depthMax?: number;
  /** The walk is given up after this many states; default 1,000,000. */
  readonly statesMax?: number;
  readonly createReplica?: CreateReplica;
  readonly createClient?: CreateClient;
}

export interface Exploration {
  readonly name: string;
  readonly states: number;
  /** Choices made: edges of the state graph. */
  readonly transitions: number;
  /** Longest of the shortest paths to a state. */
  readonly depth: number;
  /** Every reachable state was reached; false if a bound or a violation ended the walk. */
  readonly complete: boolean;
  /** States in which nothing more can happen. */
  readonly ends: number;
  /** Ends in which every request was committed. */
  readonly committedEnds: number;
  /** What some state of the walk had: a walk that reaches nothing finds nothing wrong. */
  readonly reached: Reached;
  readonly violation:
    | { readonly invariant: string; readonly detail: string; readonly path: readonly string[] }
    | undefined;
}

export interface Reached {
  /** The highest epoch that a replica knew to be decided, and the highest that it knew to have begun. */
  readonly decided: number;
  readonly begun: number;
  /** Views whose primary said what their log is, ascending. */
  readonly views: readonly number[];
  /** Those in which something was committed that was not when the walk began. */
  readonly commits: readonly number[];
}

const LIMITS: Limits = {
  logEntries: 16,
  logBytes: 4096,
  maxSessions: 8,
  maxLanes: 8,
  lanesPerSession: 1,
  operationBytes: 64,
  resultBytes: 64,
  keptResultBytes: 4096,
  waiting: 4,
  chunkBytes: 512,
  held: 0,
  cachedRequests: 16,
  cachedBytes: 1024,
};
/** An increment by one, and the length of its result (machine/counter.ts). */
const INCREMENT = Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 1);
/**
 * A host that is not called for longer than a quarter of `suspectUs` counts as stalled; a chosen timeout must not be a
 * stall.
 */
const STEP_US = DEFAULT_TIMINGS.suspectUs / 8;
/**
 * The timings under which the walked configurations were counted (docs/internals/explorer.md): nothing is held, members that differ
 * fetch, and nothing is pushed.
 */
const TIMINGS: Timings = { ...DEFAULT_TIMINGS, maxHoldNs: 0, orderHoldUs: 0, lateRepairUs: 0, slowAfterUs: 0 };
const WALL_NS = 1_000_000;
/** Timeouts of the primary until all know what is committed, at most. */
const ROUNDS_MAX = 20;

interface Message {
  readonly from: number;
  readonly to: number;
  readonly bytes: Uint8Array;
  /** Equal for equal messages with equal ends. */
  readonly key: string;
}

type Choice =
  | { readonly kind: 'deliver' | 'lose' | 'repeat'; readonly message: number }
  | { readonly kind: 'timeout' | 'crash'; readonly endpoint: number }
  | { readonly kind: 'promise'; readonly view: number; readonly replicas: readonly number[] };

/** One reached state: how it was reached, and how many choices it offers. */
interface Node {
  readonly parent: number;
  readonly choice: number;
  readonly depth: number;
  readonly choices: number;
}

/** Walks a configuration to its end, or to a bound. Never throws, whatever the cores do. */
export function explore(configuration: Configuration, options: ExploreOptions = {}): Exploration {
  const depthMax = options.depthMax ?? 200;
  const statesMax = options.statesMax ?? 1_000_000;
  const nodes: Node[] = [];
  const seen = new Set<string>();
  let transitions = 0;
  let complete = true;
  let ends = 0;
  let committedEnds = 0;
  const [views, commits] = [new Set<number>(), new Set<number>()];
  const reached = { decided: 0, begun: 0 };
  const ascending = (numbers: ReadonlySet<number>): number[] => [...numbers].sort((a, b) => a - b);

  const pathTo = (node: number): number[] => {
    const path: number[] = [];
    for (let at = node; nodes[at]!.parent >= 0; at = nodes[at]!.parent) path.push(nodes[at]!.choice);
    return path.reverse();
  };
  const result = (violation: Exploration['violation']): Exploration => {
    const depth = nodes.length === 0 ? 0 : nodes[nodes.length - 1]!.depth;
    return {
      name: configuration.name,
      states: nodes.length,
      transitions,
      depth,
      complete: complete && violation === undefined,
      ends,
      committedEnds,
      reached: { ...reached, views: ascending(views), commits: ascending(commits) },
      violation,
    };
  };
  const add = (world: World, parent: number, choice: number, depth: number): void => {
    const fingerprint = world.fingerprint();
    if (seen.has(fingerprint)) return;
    seen.add(fingerprint);
    const here = world.reached;
    reached.decided = Math.max(reached.decided, here.decided);
    reached.begun = Math.max(reached.begun, here.begun);
    for (const view of here.views) views.add(view);
    for (const view of here.commits) commits.add(view);
    const choices = world.choices().length;
    if (choices === 0) {
      ends++;
      if (world.allCommitted) committedEnds++;
    }
    nodes.push({ parent, choice, depth, choices });
  };

  try {
    add(new World(configuration, options), -1, -1, 0);
  } catch (error) {
    return result({ ...reasonOf(error), path: [] });
  }
  for (let at = 0; at < nodes.length; at++) {
    const { choices, depth } = nodes[at]!;
    if (choices > 0 && depth >= depthMax) {
      complete = false;
      continue;
    }
    const path = pathTo(at);
    for (let choice = 0; choice < choices; choice++) {
      if (nodes.length >= statesMax) {
        complete = false;
        return result(undefined);
      }
      transitions++;
      const world = new World(configuration, options);
      try {
        for (const made of path) world.make(made);
        world.make(choice);
      } catch (error) {
        return result({ ...reasonOf(error), path: describePath(configuration, options, [...path, choice]) });
      }
      add(world, at, choice, depth + 1);
    }
  }
  return result(undefined);
}

/** What a path does, one line for each choice; it stops at the violation, if there is one. */
function describePath(configuration: Configuration, options: ExploreOptions, path: readonly number[]): string[] {
  const world = new World(configuration, options);
  const lines: string[] = [];
  for (const choice of path) {
    lines.push(world.describe(choice));
    try {
      world.make(choice);
    } catch {
      break;
    }
  }
  return lines;
}

function reasonOf(error: unknown): { invariant: string; detail: string } {
  if (error instanceof Violation) return { invariant: error.invariant, detail: error.detail };
  if (error instanceof InvariantError) return { invariant: 'core-invariant', detail: error.message };
  return {
    invariant: 'core-exception',
    detail: error instanceof Error ? (error.stack ?? error.message) : String(error),
  };
}

/**
 * The memory of the checks, against which later states are judged. Nodes of their tree are numbered as they appear, so
 * their chains stand for them here.
 */
function memoryOf(checks: Checks): unknown {
  const { tree } = checks;
  const chains = (nodes: readonly number[]): string =>
    nodes.map((node) => `${tree.chainHis[node]}/${tree.chainLos[node]}`).join();
  // What was acknowledged before the primary said it is in `pending`.
  const views = checks['ordered'].map(({ view, length, path, vouched, pending, chosen }) => [
    view,
    length,
    chains(path.slice(0, length + 1)),
    vouched,
    pending,
    chosen,
  ]);
  return [chains(checks.chosen), views, checks.epochs.members?.index];
}

/** A cluster, its clients and its network, in one state. */
class World {
  private readonly hasher = new SimulationHasher();
  private readonly checks: Checks;
  private readonly replicas: SimulatedReplicaCore[] = [];
  private readonly clients: SimulatedClientCore[] = [];
  /** Replicas that the client which is called asks who the members are: it is told at once. */
  private readonly asked: number[] = [];
  /** Decides who the next voters are, before the walk begins. */
  private operator: SimulatedClientCore | undefined;
  private readonly probes: MachineProbe[] = [];
  private readonly disks: (HardState | undefined)[];
  private readonly clocks: Instant[];
  private readonly left: number[];
  private readonly history: HistoryEvent[] = [];
  private inFlight: Message[] = [];
  private losses: number;
  private duplicates: number;
  private timeouts: number;
  private crashes: number;
  private promised = 0;
  private steps = 0;
  private exploring = false;
  /** Entries that were committed when the walk began. */
  private before = 0;

  constructor(
    private readonly configuration: Configuration,
    private readonly options: ExploreOptions,
  ) {
    const { replicas, clients } = configuration;
    this.checks = new Checks(replicas);
    this.disks = new Array<HardState | undefined>(replicas).fill(undefined);
    this.left = new Array<number>(clients).fill(configuration.requests);
    this.losses = configuration.losses ?? 0;
    this.duplicates = configuration.duplicates ?? 0;
    this.timeouts = configuration.timeouts?.budget ?? 0;
    this.crashes = configuration.crashes?.budget ?? 0;
    this.clocks = Array.from({ length: replicas + clients }, (_, endpoint) => {
      const now = new Instant();
      // Clients' clocks differ; replicas' clocks are later than all requests, so that none is held back or refused as
      // too early.
      now.wallLo = endpoint < replicas ? 1000 * WALL_NS : (endpoint + 1) * WALL_NS;
      return now;
    });
    for (let id = 0; id < replicas; id++) this.startReplica(id);
    for (let index = 0; index < clients; index++) {
      this.startClient(index);
      this.settle();
    }
    // The state after the registrations: all replicas have them, and know that they are committed.
    for (let round = 0; round < 2; round++) {
      this.timeout(0);
      this.settle();
    }
    if (configuration.nextVoters !== undefined) this.decide(configuration.nextVoters);
    this.exploring = true;
    this.before = this.checks.chosenLength;
    if (configuration.requests > 0) for (let index = 0; index < clients; index++) this.submit(index);
  }

  get reached(): Reached {
    const { checks, before } = this;
    const records = checks['ordered'].filter(({ length }) => length >= 0);
    return {
      decided: checks.epochs.members?.decided ?? 0,
      begun: checks.epochs.members?.started ?? 0,
      views: records.map(({ view }) => view),
      commits: records.filter(({ chosen }) => chosen > before).map(({ view }) => view),
    };
  }

  /** Every request of every client was committed. */
  get allCommitted(): boolean {
    return this.left.every((left) => left === 0) && this.clients.every((client) => client.isIdle(0));
  }

  /** Everything that can happen next, in an order that depends on the state alone. */
  choices(): Choice[] {
    const { configuration, inFlight } = this;
    const choices: Choice[] = [];
    inFlight.forEach(({ key }, message) => {
      // One of several equal messages stands for all.
      if (message > 0 && inFlight[message - 1]!.key === key) return;
      choices.push({ kind: 'deliver', message });
      if (this.losses > 0) choices.push({ kind: 'lose', message });
      if (this.duplicates > 0) choices.push({ kind: 'repeat', message });
    });
    if (this.timeouts > 0) {
      for (const endpoint of configuration.timeouts!.endpoints)
        if (this.core(endpoint).wakeAtUs !== Infinity) choices.push({ kind: 'timeout', endpoint });
    }
    if (this.crashes > 0)
      for (const endpoint of configuration.crashes!.replicas) choices.push({ kind: 'crash', endpoint });
    const asked = configuration.views?.[this.promised];
    if (asked !== undefined) choices.push({ kind: 'promise', ...asked });
    return choices;
  }

  /** Makes the choice with that number; throws if that breaks a rule. */
  make(number: number): void {
    const choice = this.choices()[number]!;
    this.steps++;
    switch (choice.kind) {
      case 'deliver':
        this.deliver(this.inFlight.splice(choice.message, 1)[0]!);
        break;
      case 'lose':
        this.losses--;
        this.inFlight.splice(choice.message, 1);
        break;
      case 'repeat':
        this.duplicates--;
        this.deliver(this.inFlight[choice.message]!);
        break;
      case 'timeout':
        this.timeouts--;
        this.timeout(choice.endpoint);
        break;
      case 'crash':
        this.crashes--;
        this.checks.stopped(choice.endpoint);
        this.startReplica(choice.endpoint);
        break;
      case 'promise':
        this.promised++;
        this.askForView(choice.view, choice.replicas);
    }
    // A client that is done ignores later messages.
    this.inFlight = this.inFlight.filter(
      ({ to }) => to < this.configuration.replicas || !this.isDone(to - this.configuration.replicas),
    );
    this.inFlight.sort((a, b) => (a.key < b.key ? -1 : a.key > b.key ? 1 : 0));
  }

  describe(number: number): string {
    const choice = this.choices()[number]!;
    switch (choice.kind) {
      case 'timeout':
        return `timeout  ${this.name(choice.endpoint)}`;
      case 'crash':
        return `crash    ${this.name(choice.endpoint)} loses its log and starts`;
      case 'promise':
        return `promise  view ${choice.view} is asked of ${choice.replicas.map((replica) => this.name(replica)).join(', ')}`;
      default: {
        const { from, to, bytes } = this.inFlight[choice.message]!;
        return `${choice.kind.padEnd(8)} ${this.name(from)} => ${this.name(to)}  ${formatMessage(bytes)}`;
      }
    }
  }

  /** Equal for two states only if the same can follow from both. */
  fingerprint(): string {
    const print = new Fingerprint();
    print.add(this.replicas);
    print.add(this.clients);
    // Its state is private to the machine; the probe has what it executed.
    for (const probe of this.probes) print.add(probe.snapshot());
    print.add(this.disks);
    print.add(this.clocks.map((now) => now.monotonicUs));
    print.add(this.inFlight.map(({ key }) => key));
    print.add([this.losses, this.duplicates, this.timeouts, this.crashes, this.promised, ...this.left]);
    print.add(this.history.map(({ type, process, result }) => `${type}${process}${String(result)}`));
    print.add(memoryOf(this.checks));
    return print.digest();
  }

  private name(endpoint: number): string {
    return endpoint < this.configuration.replicas ? `r${endpoint}` : `c${endpoint - this.configuration.replicas}`;
  }

  private core(endpoint: number): SimulatedReplicaCore | SimulatedClientCore {
    return this.replicas[endpoint] ?? this.clients[endpoint - this.configuration.replicas]!;
  }

  private isDone(client: number): boolean {
    return this.exploring && this.left[client] === 0 && this.clients[client]!.isIdle(0);
  }

  private startReplica(id: number): void {
    const { configuration, disks, checks, clocks } = this;
    const storage: Storage = {
      keepsLog: false,
      stalled: false,
      get membersIndex() {
        const members = disks[id]?.members;
        return members === undefined ? 0 : readIndex(members, 0);
      },
      persist: (token, batch) => {
        disks[id] = { ...batch.hardState };
        this.replicas[id]!.persisted(token);
      },
    };
    const probe = new MachineProbe(new CounterMachine(), `replica ${id}`);
    this.probes[id] = probe;
    const config = {
      id,
      replicas: configuration.replicas,
      seed: id,
      late: 'reject' as const,
      limits: LIMITS,
      timings: TIMINGS,
      ...(configuration.nextVoters === undefined ? {} : { features: Feature.membership }),
    };
    const core = (this.options.createReplica ?? createShippedReplica)(
      config,
      this.outbox(id),
      storage,
      probe,
      this.hasher,
      { transition: () => {} },
    );
    this.replicas[id] = core;
    checks.started(id, core.state);
    core.start({ hardState: disks[id], log: undefined }, clocks[id]!);
    this.check(id);
  }

  private startClient(index: number): void {
    const endpoint = this.configuration.replicas + index;
    const events = {
      registered: (): void => {},
      completed: (_lane: number, outcome: number): void => this.completed(index, outcome),
      unknownEpoch: (from: number): void => void this.asked.push(from),
    };
    const core = this.createClient(index, events);
    this.clients[index] = core;
    core.register(this.clocks[endpoint]!);
  }

  private createClient(index: number, events: ClientEvents, flags = 0): SimulatedClientCore {
    const { replicas } = this.configuration;
    const config = {
      replicas,
      lanes: 1,
      seed: index,
      sessionHi: 0,
      sessionLo: index + 1,
      nonceHi: 0,
      nonceLo: index + 1,
      flags,
      limits: LIMITS,
      timings: DEFAULT_CLIENT_TIMINGS,
    };
    return (this.options.createClient ?? createShippedClient)(config, this.outbox(replicas + index), events);
  }

  /** An operator names all hosts, and has these decided as the voters of epoch 1. Then it is gone. */
  private decide(ids: readonly number[]): void {
    const { replicas, clients } = this.configuration;
    const now = new Instant();
    now.wallLo = 500 * WALL_NS;
    this.clocks.push(now);
    this.operator = this.createClient(
      clients,
      { registered: () => undefined, completed: () => undefined },
      RequestFlag.configure,
    );
    this.operator.register(now);
    this.settle();
    const operations: ConfigureOperation[] = Array.from({ length: replicas }, (_, id) => ({
      kind: 'name',
      id,
      identityHi: 1,
      identityLo: id,
      address: `host-${id}:1`,
    }));
    operations.push({ kind: 'change', from: 0, to: 1, ids });
    for (const operation of operations) {
      const bytes = encodeOperation(operation);
      this.operator.submit(0, bytes, 0, bytes.length, Infinity, now);
      this.settle();
    }
    const areTold = (): boolean => this.replicas.every(({ state }) => state.members.decided === 1);
    for (let round = 0; round < ROUNDS_MAX && !areTold(); round++) {
      const primary = this.clocks[0]!;
      primary.monotonicUs += STEP_US;
      this.replicas[0]!.tick(primary);
      this.check(0);
      this.replicas[0]!.flush(primary);
      this.check(0);
      this.settle();
    }
    this.operator = undefined;
    this.clocks.pop();
    if (!areTold() || this.replicas.some(({ state }) => state.view !== 0))
      throw new Error('the walk begins when all know of the next epoch, and none has promised a view of it');
  }

  private outbox(from: number): Outbox {
    const { checks } = this;
    const { replicas } = this.configuration;
    const bytes = new Uint8Array(2048);
    let destination = -1;
    return {
      bytes,
      reserve: (to) => {
        destination = to;
        return 0;
      },
      commit: (length) => {
        const message = bytes.slice(0, length);
        if (from < replicas) checks.sent(from, message, 0);
        const to = destination;
        this.inFlight.push({ from, to, bytes: message, key: `${from},${to},${String.fromCharCode(...message)}` });
      },
    };
  }

  private deliver({ from, to, bytes }: Message): void {
    const now = this.clocks[to]!;
    const replica = this.replicas[to];
    if (replica === undefined) {
      const client = this.clients[to - this.configuration.replicas] ?? this.operator!;
      client.receive(bytes, 0, bytes.length, from, now);
      this.tell(client, now);
      return;
    }
    replica.receive(bytes, 0, bytes.length, from, now);
    this.check(to);
    replica.flush(now);
    this.check(to);
  }

  private tell(client: SimulatedClientCore, now: Instant): void {
    for (let of = this.asked.shift(); of !== undefined; of = this.asked.shift())
      client.takeMembers(encodeMembership(this.replicas[of]!.state.members), now);
  }

  private check(replica: number): void {
    this.checks.epochs.learn(this.replicas[replica]!.state.members);
    this.checks.after(replica, this.probes[replica]!);
  }

  private timeout(endpoint: number): void {
    const now = this.clocks[endpoint]!;
    const core = this.core(endpoint);
    const atUs = Math.max(core.wakeAtUs, now.monotonicUs);
    while (now.monotonicUs < atUs) {
      now.monotonicUs = Math.min(atUs, now.monotonicUs + STEP_US);
      core.tick(now);
    }
    const replica = this.replicas[endpoint];
    if (replica === undefined) return;
    this.check(endpoint);
    replica.flush(now);
    this.check(endpoint);
  }

  private askForView(view: number, replicas: readonly number[]): void {
    for (const to of replicas) {
      const bytes = new Uint8Array(ViewChange.size);
      begin(ViewChange, bytes, 0);
      writeI32(bytes, ViewChange.at.view, view);
      const from = (to + 1) % this.configuration.replicas;
      this.inFlight.push({ from, to, bytes, key: `${from},${to},${String.fromCharCode(...bytes)}` });
    }
  }

  /** Delivers in order until nothing is in flight. */
  private settle(): void {
    for (let message = this.inFlight.shift(); message !== undefined; message = this.inFlight.shift())
      this.deliver(message);
  }

  private submit(index: number): void {
    const { replicas } = this.configuration;
    this.left[index]!--;
    this.history.push({ process: index, type: 'invoke', f: 'increment', key: 'n', value: 1, time: this.steps });
    this.clients[index]!.submit(0, INCREMENT, 0, INCREMENT.length, Infinity, this.clocks[replicas + index]!);
  }

  private completed(index: number, outcome: number): void {
    if (outcome !== Outcome.committed)
      throw new Violation(
        'client-result',
        `the request of client ${index} ended with outcome ${outcome}, without a deadline`,
      );
    const core = this.clients[index]!;
    if (core.resultLength(0) !== INCREMENT.length)
      throw new Violation('client-result', `the machine answered an increment with ${core.resultLength(0)} bytes`);
    const result = readIndex(core.resultBytes(0), 0);
    this.checks.clientCommitted(0, index + 1, 0, this.configuration.requests - this.left[index]!);
    this.history.push({ process: index, type: 'ok', f: 'increment', key: 'n', value: 1, result, time: this.steps });
    const verdict = checkHistory(this.history);
    if (verdict.outcome !== 'linearizable') throw new Violation('linearizable', explain(verdict));
    if (this.left[index]! > 0) this.submit(index);
  }
}
