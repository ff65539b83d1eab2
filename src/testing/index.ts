/** Tools for tests of a state machine: what `import … from 'jitpaxos/testing'` provides. */
export { checkHistory, type CheckHistoryOptions, type HistoryVerdict } from './check-history.js';
export type { SimulationFailureKind } from './fault.js';
export { HistoryRecorder, type RecordedClient, type RecordedOperation } from './history.js';
export { LocalCluster, type LocalClusterOptions, type MachineModule } from './local-cluster.js';
export { machineModel, type Model, type ModelStep } from './model.js';
export type { ReplicaSettings } from './replica-process.js';
export {
  simulate,
  SIMULATION_FAULTS,
  type SimulateOptions,
  type SimulationCounts,
  type SimulationFailure,
  type SimulationReport,
} from './simulate.js';
export type { Chance, Workload, WorkloadOperation } from './workload.js';
export { HistoryError } from '../sim/history.js';
