/**
 * Scheduling of a bench's processes, where they are more than the host has processors.
 *
 * Under Linux's usual policy whoever is woken may take the processor from whoever runs, also from a client between its sends to
 * two members: sendmmsg lets others run after each message. What other clients send in that time arrives in another order
 * at the second member. Under SCHED_BATCH nobody who wakes takes the processor from anybody. It needs no privilege.
 */
import { spawnSync } from 'node:child_process';
import { availableParallelism } from 'node:os';

export class BatchScheduling implements Disposable {
  /** False: the host has a processor for each process, or no `chrt` (util-linux). */
  readonly inForce: boolean;

  /** Puts this process, and so all that it starts from now on, under SCHED_BATCH when `processes` are more than there are processors. */
  constructor(processes: number) {
    this.inForce = processes > availableParallelism() && chrt('--batch');
  }

  [Symbol.dispose](): void {
    if (this.inForce) chrt('--other');
  }
}

function chrt(policy: '--batch' | '--other'): boolean {
  return spawnSync('chrt', [policy, '--pid', '0', String(process.pid)], { stdio: 'ignore' }).status === 0;
}
