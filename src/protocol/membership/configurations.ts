/** The configurations that a membership says govern views: the one that began last, and the one that follows it. */
import { Configuration, EPOCH_VIEWS, MAX_VIEW } from '../configuration.js';
import { hostOf, type Membership } from './membership.js';

/** Of the epoch that began last, then of the decided one, if that is another. */
export function configurationsOf(membership: Membership): Configuration[] {
  const { started, decided, voters, nextVoters } = membership;
  const configuration = (epoch: number, ids: readonly number[], limit: number): Configuration => {
    const first = epoch * EPOCH_VIEWS;
    // Before the first change all views are those of the cluster file's replicas, as ever.
    const last = epoch === 0 ? MAX_VIEW : first + EPOCH_VIEWS - 1;
    const slots = ids.map((id) => hostOf(membership, id)!.slot);
    return new Configuration(epoch, ids, slots, first, Math.min(last, limit));
  };
  return decided > started
    ? [configuration(started, voters, decided * EPOCH_VIEWS - 1), configuration(decided, nextVoters, MAX_VIEW)]
    : [configuration(started, voters, MAX_VIEW)];
}
