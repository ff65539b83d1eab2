/**
 * Storage for durability `memory`: the log lives in memory only, the hard state on disk.
 *
 * The hard state changes with views and starts, not with operations, so it is written synchronously: the caller waits a
 * few milliseconds for the disk, and nothing that depends on it can leave earlier.
 */
import type { HardState, PersistBatch, Recovered, Storage } from '../protocol/contract.js';

/** Where the hard state goes: a HardStateFile, or memory for replicas that are never started again. */
export interface HardStateStore {
  readonly state: HardState | undefined;
  /** Of the data directory, once it is durable. */
  readonly identity: string | undefined;
  /** Those that are durable beside it. */
  readonly members?: Uint8Array | undefined;
  write(state: HardState): void;
  close(): void;
}

export class MemoryStorage implements Storage {
  readonly keepsLog = false;
  readonly stalled = false;
  /** Gets the token of each batch as soon as it is durable, during `persist`. */
  persisted: (token: number) => void = () => undefined;

  constructor(private readonly hardState: HardStateStore) {}

  /** The identity of the data directory; undefined until it is durable, and without a directory. */
  get identity(): string | undefined {
    return this.hardState.identity;
  }

  /** Without a hard state this is the first start. Otherwise the replica existed before, and its log is lost. */
  recovered(): Recovered {
    const { state, members } = this.hardState;
    return { hardState: state, ...(state === undefined && members !== undefined ? { members } : {}), log: undefined };
  }

  /** Throws JitPaxosError `storage-failed`: nothing of the batch is durable, and the replica must stop. */
  persist(token: number, batch: PersistBatch): void {
    this.hardState.write(batch.hardState);
    this.persisted(token);
  }

  close(): void {
    this.hardState.close();
  }
}

/** Forgets with the process: for replicas that are never started a second time, as in tests and benches. */
export class VolatileHardState implements HardStateStore {
  state: HardState | undefined;
  readonly identity = undefined;

  write(state: HardState): void {
    this.state = { ...state };
  }

  close(): void {
    this.state = undefined;
  }
}
