/** The library: what `import … from 'jitpaxos'` provides. Everything else is internal and may change. */
export { Client, type CallOptions, type ClientOptions } from './client/client.js';
export { ClientHost, type ClientHostEvents, type ClientHostOptions } from './client/client-host.js';
export type { ClientStats } from './client/client-stats.js';
export { KvClient, type Bytes, type ScanOptions, type ScanResult } from './client/kv-client.js';
export { StoreClient } from './client/store-client.js';
export type {
  DeleteOptions,
  Fence,
  PutHold,
  PutOptions,
  PutResult,
  RangeOptions,
  RangeResult,
  StoreCondition,
  StoreLease,
  StoreOperation,
  StoreOperationResult,
  StoreTransaction,
  StoreValue,
  TransactionResult,
} from './client/store-types.js';
export type { Lease, LeaseOptions } from './client/lease.js';
export type { Leader, Lock } from './client/lock.js';
export type { LineKind, LineOptions } from './client/waiting-line.js';
export type { StoreWatch, WatchOptions } from './client/store-watch.js';
export { WatchCompactedError, type StoreChange } from './client/watch-reader.js';
export type { KeyCondition, KeyState, StoreEntry } from './machine/store/codec.js';
export { StatusClient, type StatusAnswer, type StatusClientOptions } from './client/status-client.js';
export { openClock } from './clock/open.js';
export type { Clock, ClockEpoch } from './clock/clock.js';
export { ClockError, type ClockErrorCode } from './clock/errors.js';
export { ERRORS, JitPaxosError, type CommandErrorCode, type ErrorCategory, type ErrorCode } from './errors.js';
export { CounterMachine } from './machine/counter.js';
export { EchoMachine } from './machine/echo.js';
export { KvMachine, type KvOptions } from './machine/kv.js';
export type { KvEntry } from './machine/kv-codec.js';
export { KvError, SnapshotError, type KvErrorCode } from './machine/machine-error.js';
export type {
  ApplyContext,
  Operation,
  Reply,
  RestoreInPieces,
  SnapshotInPieces,
  StateMachine,
} from './machine/state-machine.js';
export {
  DEFAULT_CLIENT_TIMINGS,
  DEFAULT_LATE,
  DEFAULT_LIMITS,
  DEFAULT_TIMINGS,
  type ClientTimings,
  type LateRule,
  type Limits,
  type Timings,
} from './protocol/config.js';
export { expose, EXPOSITION_CONTENT_TYPE, type Family } from './metrics/exposition.js';
export { Outcome } from './protocol/contract.js';
export { InvariantError } from './protocol/invariant.js';
export { CLUSTER_SCHEMA, type ClusterConfig } from './host/cluster-config.js';
export {
  lineLogger,
  silentLogger,
  stderrLogger,
  type LineLoggerOptions,
  type Logger,
  type LogLevel,
} from './host/logger.js';
export { MetricsServer, type MetricsServerOptions, type Monitored } from './server/metrics-server.js';
export { RedisFrontEnd, type RedisFrontEndOptions } from './redis/server.js';
export type { UserEntry, UsersFile } from './redis/users.js';
export { Replica } from './server/replica.js';
export type { ReplicaOptions } from './server/replica-options.js';
export type { ReplicaStatusReport } from './host/status.js';
