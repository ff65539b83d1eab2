/** The bounds of a load, whoever asks for it: the flags of `bench load`, and a coordinator that orders one of an agent. */
export const RATE_MAX = 1e8;
export const CLIENTS_MAX = 256;
export const LANES_MAX = 4096;
export const SIZE_MAX = 48 * 1024;
export const KEYS_MAX = 1e6;
export const DURATION_NS_MAX = 86_400e9;
export const WARMUP_NS_MAX = 3600e9;
export const TIMEOUT_NS_MAX = 3600e9;
