/**
 * Scheduling of a bench's processes if there are more than the host has processors.
 *
 * Under Linux's usual policy a process that wakes may take the processor from the running one, even from a client
 * between its sends to two members: sendmmsg lets others run after each message. Requests that other clients send in
 * that time arrive in another order at the second member. Under SCHED_BATCH a waking process never preempts another. It
 * needs no privilege.
 */
import { spawnSync } from 'node:child_process';
import { availableParallelism } from 'node:os';

export class BatchScheduling implements Disposable {
  /** False: the host has a processor for each process, or no `chrt` (util-linux). */
  readonly inForce: boolean;

  /**
   * Puts this process, and everything that it starts from now on, under SCHED_BATCH if `processes` exceeds the number
   * of processors.
   */
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
