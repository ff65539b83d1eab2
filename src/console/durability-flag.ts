/** What the replicas of a measurement keep on disk: a flag of every bench that starts replicas. */
import { DURABILITIES } from '../storage/durability.js';
import type { Flag } from './flags.js';

export const DURABILITY_FLAG = {
  kind: 'choice',
  choices: DURABILITIES,
  default: 'memory',
  help: 'durability of the replicas that --local starts. The default differs from that of jitpaxos replica',
} as const satisfies Flag;
