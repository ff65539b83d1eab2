/** What survives what: `memory`, the log survives while f + 1 processes live; `os`, their ends; `fsync`, those of their hosts. */
export type Durability = 'memory' | 'os' | 'fsync';
export const DURABILITIES: readonly Durability[] = ['memory', 'os', 'fsync'];
