/**
 * An epoch has a number of views, and no view of the next one is among them (S: `Configuration.next`). Before they are used
 * up, the primary has the same voters decided for the next epoch. That may be changed freely: the entry is like any other
 * change (membership/changes.ts), and begins as that does.
 */
import { EPOCH_MAX, EPOCH_VIEWS } from '../../configuration.js';
import { Feature } from '../../log/features.js';
import type { ReplicaState } from '../replica-state.js';
import { renewalBehind } from './primary-entries.js';

/** Views of an epoch that may pass before. */
const RENEW_AFTER = (3 * EPOCH_VIEWS) / 4;

export class Renewal {
  constructor(private readonly state: ReplicaState) {}

  /** At a primary: appends the change if it is time for it, and none is open. */
  tick(): void {
    const { state } = this;
    if (!state.isPrimary || !this.isDue) return;
    const { execution, log, configuration } = state;
    const { started, decided, voters } = execution.membership;
    const to = configuration.epoch + 1;
    if (decided !== started || started !== configuration.epoch || to > EPOCH_MAX) return;
    if (!state.append(renewalBehind(log, started, to, voters))) return;
    execution.executeTo(log.lastIndex);
    state.transition(
      'renew-epoch',
      `epoch ${to}, because ${configuration.last - state.view} views of this one are left`,
    );
  }

  private get isDue(): boolean {
    const { config, configuration, execution, view } = this.state;
    return (
      (execution.features & Feature.membership) !== 0 &&
      // The first view of an epoch may be any of a cycle.
      view - configuration.first >= Math.max(config.renewAfter ?? RENEW_AFTER, configuration.cycle)
    );
  }
}
