/**
 * One run: a cluster, its clients and its network, made from a seed. First a safety phase with faults; then the faults
 * end, and in a liveness phase everything must work again within a given time.
 *
 * Nothing here or below reads a clock, waits, or uses any source of chance but the seed: the same options give the same
 * run, message for message, as `digest` shows.
 */
import { Assembly, usesStore, type SimulationOptions } from './assembly.js';
import { awaitGoals, compareMachines, heal, startClients } from './judging.js';
import type { SimulationFailure, SimulationResult } from './result.js';
import { StoreWorkload } from './store-workload.js';
import { totalsOf } from './totals.js';
import { Violation } from './violation.js';
import { KvWorkload, type Workload } from './workload.js';

/** Runs one seed to its end. Never throws, whatever the cores do: an exception is a failure in the result. */
export function simulate(options: SimulationOptions): SimulationResult {
  if (usesStore(options)) return { ...simulateWorkload(options, new StoreWorkload()), history: [] };
  const workload = new KvWorkload();
  return { ...simulateWorkload(options, workload), history: workload.history };
}

/** The same with the operations that `workload` gives, which are those of the machine that `options` make. */
export function simulateWorkload(options: SimulationOptions, workload: Workload): Omit<SimulationResult, 'history'> {
  const run = new Assembly(options, workload);
  let failure: SimulationFailure | undefined;
  let recoveryTicks = 0;
  let undecided: string | undefined;
  try {
    begin(run, options);
    while (run.queue.step(run.ticks));
    heal(run, run.delivery, options.idle === true);
    awaitGoals(run);
    recoveryTicks = run.queue.nowUs - run.ticks;
    compareMachines(run);
    undecided = workload.judge(run.checks);
  } catch (error) {
    failure = failureOf(error, run);
  }
  return {
    seed: run.seed,
    replicas: options.replicas,
    ticks: run.ticks,
    plan: run.describe(),
    failure,
    undecided,
    totals: totalsOf(run),
    digest: run.delivery.digest,
    recoveryTicks,
  };
}

function begin(run: Assembly, options: SimulationOptions): void {
  run.worldDriver.start();
  run.beginnings.start(run.first);
  if (options.idle !== true) startClients(run);
  run.memberOperator?.start();
  run.upgrade?.start();
  run.enemy?.start();
  run.operator?.start();
  run.driver.start();
  run.ambush?.start();
  run.mishaps.start();
  run.diverging?.start();
}

function failureOf(error: unknown, { queue, hosts, clients, checks }: Assembly): SimulationFailure {
  const violation =
    error instanceof Violation
      ? error
      : new Violation('core-exception', error instanceof Error ? (error.stack ?? error.message) : String(error), {
          cause: error,
        });
  const cause = violation.cause instanceof Error ? violation.cause : violation;
  return {
    invariant: violation.invariant,
    detail: violation.detail,
    tick: queue.nowUs,
    cluster: [...hosts.map((host) => checks.describe(host.id)), ...clients.map((client) => client.describe())],
    stack: cause.stack ?? '',
  };
}
