/** Which transport a host gets: the requested one, or the fastest available. */
import { JitPaxosError } from '../errors.js';
import { native, type NativeBinding } from '../native/addon.js';
import { DgramTransport } from '../transport/dgram.js';
import { NativeUdpTransport } from '../transport/native-udp.js';
import { IDLE_STRATEGIES, type IdleStrategy, type Transport, type TransportOptions } from '../transport/transport.js';
import { show } from './options.js';

/** `auto`: native if the addon is available, otherwise dgram. */
export type TransportKind = (typeof TRANSPORT_KINDS)[number];

export const TRANSPORT_KINDS = ['auto', 'dgram', 'native'] as const;

/**
 * Throws JitPaxosError `option-invalid`, or `native-transport-missing` if that one is requested by name. If `auto`
 * falls back to dgram, a notice `transport.dgram` says so.
 *
 * @param idle for the native transport; dgram always blocks, and any other choice is refused
 */
export function createTransport(
  kind: TransportKind | undefined,
  idle: IdleStrategy | undefined,
  options: Omit<TransportOptions, 'idle'>,
  binding: NativeBinding = native,
): Transport {
  const wanted = choice('transport', kind ?? 'auto', TRANSPORT_KINDS);
  const strategy = choice('idle', idle ?? 'adaptive', IDLE_STRATEGIES);
  if (wanted === 'dgram') {
    if (idle !== undefined && idle !== 'block')
      throw new JitPaxosError(
        'option-invalid',
        `idle is ${show(idle)}, and the dgram transport always blocks; leave it out, or use the native transport`,
      );
    return new DgramTransport({ ...options, idle: 'block' });
  }
  if (binding.available) return new NativeUdpTransport(binding.addon, { ...options, idle: strategy });
  if (wanted === 'native')
    throw new JitPaxosError(
      'native-transport-missing',
      `transport is "native", and ${binding.reason}; "auto" takes dgram then`,
    );
  options.notice('transport.dgram', { reason: binding.reason });
  return new DgramTransport({ ...options, idle: 'block' });
}

function choice<const T extends string>(name: string, value: T, choices: readonly T[]): T {
  if (choices.includes(value)) return value;
  throw new JitPaxosError(
    'option-invalid',
    `${name} is ${show(value)}; it has to be one of ${choices.map((one) => `"${one}"`).join(', ')}`,
  );
}
