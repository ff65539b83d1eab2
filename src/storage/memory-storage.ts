/**
 * Storage for durability `memory`: the log lives in memory only, the hard state on disk.
 *
 * The hard state changes with views, members and starts, not with operations. It is written in libuv's pool: a slow disk
 * keeps the messages that depend on it, not the replica. One write at a time; a state that comes meanwhile takes the place
 * of one that still waits, because it says all that the older one says, and later.
 */
import type { HardState, PersistBatch, Recovered, Storage } from '../protocol/contract.js';
import { identityFrom } from '../protocol/membership/operations.js';
import { membersIndex } from './members-file.js';

/** Where the hard state goes: a HardStateFile, or memory for replicas that are never started again. */
export interface HardStateStore {
  readonly state: HardState | undefined;
  /** Of the data directory, once it is durable. */
  readonly identity: string | undefined;
  /** The same, or what an empty directory has drawn; undefined: there is no directory. */
  readonly ownIdentity: string | undefined;
  /** Those that are durable beside it. */
  readonly members?: Uint8Array | undefined;
  /** Undefined: it is durable already. Otherwise the promise resolves when it is. Called again only after that. */
  write(state: HardState): Promise<void> | undefined;
  close(): void;
}

/** The calls of memory storage to the core's host. All are made outside of `persist`. */
export interface MemoryStorageEvents {
  /** Everything up to this token is durable. */
  persisted(token: number): void;
  /** JitPaxosError `storage-failed`: nothing more becomes durable, and the replica must stop. */
  failed(error: unknown): void;
}

interface Waiting {
  readonly token: number;
  readonly hardState: HardState;
}

export class MemoryStorage implements Storage {
  readonly keepsLog = false;
  readonly stalled = false;
  /** Gets the token of a batch that is durable at once, during `persist`. */
  persisted: (token: number) => void = () => undefined;
  /** Set by the host before the core starts. */
  events: MemoryStorageEvents | undefined;
  private waiting: Waiting | undefined;
  private running = false;
  private idle: Promise<void> = Promise.resolve();

  constructor(private readonly hardState: HardStateStore) {}

  get membersIndex(): number {
    return membersIndex(this.hardState.state?.members);
  }

  /** The identity of the data directory; undefined until it is durable, and without a directory. */
  get identity(): string | undefined {
    return this.hardState.identity;
  }

  /** Without a hard state this is the first start. Otherwise the replica existed before, and its log is lost. */
  recovered(): Recovered {
    const { state, members, ownIdentity } = this.hardState;
    return {
      hardState: state,
      ...(ownIdentity === undefined ? {} : { identity: identityFrom(ownIdentity) }),
      ...(state === undefined && members !== undefined ? { members } : {}),
      log: undefined,
    };
  }

  persist(token: number, { hardState }: PersistBatch): void {
    if (this.running) {
      this.waiting = { token, hardState };
      return;
    }
    const written = this.hardState.write(hardState);
    if (written === undefined) this.persisted(token);
    else {
      this.running = true;
      this.idle = this.run(token, written);
    }
  }

  /** Resolves when nothing is being written. */
  settled(): Promise<void> {
    return this.idle;
  }

  async close(): Promise<void> {
    await this.idle;
    this.hardState.close();
  }

  private async run(first: number, begun: Promise<void>): Promise<void> {
    let token = first;
    let written: Promise<void> | undefined = begun;
    try {
      for (;;) {
        await written;
        this.events?.persisted(token);
        const next: Waiting | undefined = this.waiting;
        if (next === undefined) break;
        this.waiting = undefined;
        token = next.token;
        written = this.hardState.write(next.hardState);
      }
      this.running = false;
    } catch (error) {
      // Still running: what comes now is kept, and never durable.
      this.events?.failed(error);
    }
  }
}

/** Forgets with the process: for replicas that are never started a second time, as in tests and benches. */
export class VolatileHardState implements HardStateStore {
  state: HardState | undefined;
  readonly identity = undefined;
  readonly ownIdentity = undefined;

  write(state: HardState): undefined {
    this.state = { ...state };
  }

  close(): void {
    this.state = undefined;
  }
}
