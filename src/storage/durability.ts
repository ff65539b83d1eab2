/**
 * What the log survives. `memory`: as long as f + 1 processes live; `os`: the end of all processes; `fsync`: the
 * failure of all hosts.
 */
export type Durability = 'memory' | 'os' | 'fsync';
export const DURABILITIES: readonly Durability[] = ['memory', 'os', 'fsync'];
