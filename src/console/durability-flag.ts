/** What the replicas of a measurement keep on disk: a flag of every bench that starts replicas. */
import { DURABILITIES } from '../storage/durability.js';
import type { Flag } from './flags.js';

export const DURABILITY_FLAG = {
  kind: 'choice',
  choices: DURABILITIES,
  default: 'memory',
  help: 'of the replicas that --local starts: what is on disk when an operation is acknowledged. Not the default of jitpaxos replica',
} as const satisfies Flag;
