// Right and wrong uses of `jitpaxos/testing`: see misuses.ts.
import { checkHistory, LocalCluster, machineModel, simulate, type Workload } from '../../src/testing/index.js';
import { Length } from './uses.js';

export const workload: Workload = (chance) => () => Uint8Array.of(chance.below(10));
// @ts-expect-error: an operation is bytes
export const texts: Workload = () => () => 'text';
// @ts-expect-error: a workload makes a source of operations for each client
export const once: Workload = () => new Uint8Array(1);

export async function uses(): Promise<void> {
  const { failure } = simulate({
    machine: () => new Length(),
    workload,
    seeds: [1, 5],
    model: machineModel(() => new Length()),
  });
  failure?.seed satisfies number | undefined;
  await using cluster = await LocalCluster.start({ machine: () => new Length(), replicas: 3 });
  cluster.client.stats();
}

export async function misuses(): Promise<void> {
  // @ts-expect-error: each replica makes its own machine
  simulate({ machine: new Length(), workload });
  // @ts-expect-error: a workload is needed
  simulate({ machine: () => new Length() });
  // @ts-expect-error: a range has two ends
  simulate({ machine: () => new Length(), workload, seeds: 5 });
  // @ts-expect-error: an option that does not exist
  simulate({ machine: () => new Length(), workload, seconds: 5 });
  // @ts-expect-error: a cluster runs a machine
  await LocalCluster.start({ replicas: 3 });
  // @ts-expect-error: a number of replicas
  await LocalCluster.start({ machine: () => new Length(), replicas: '3' });
  // @ts-expect-error: a history is judged by a model
  checkHistory([], {});
}
