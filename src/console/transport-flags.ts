/** The flags of every command that opens a transport, and the choice that they make. */
import { TRANSPORT_KINDS, type TransportKind } from '../host/transport-choice.js';
import { IDLE_STRATEGIES, type IdleStrategy } from '../transport/transport.js';
import type { Flags } from './flags.js';

export const TRANSPORT_FLAGS = {
  transport: {
    kind: 'choice',
    choices: TRANSPORT_KINDS,
    default: 'auto',
    help: 'how datagrams are sent; auto: native if the addon is available, else dgram',
  },
  idle: {
    kind: 'choice',
    choices: IDLE_STRATEGIES,
    standard: 'adaptive',
    help: 'how the native transport waits: asleep, after a little polling, or polling always',
  },
} as const satisfies Flags;

/** The choice as Replica.start, Client.connect and the processes of a bench take it. */
export interface TransportChoice {
  readonly transport: TransportKind;
  readonly idle?: IdleStrategy | undefined;
}

/** The parser has checked that both are valid choices. */
export function transportChoice(values: {
  readonly transport: string;
  readonly idle: string | undefined;
}): TransportChoice {
  return { transport: values.transport as TransportKind, idle: values.idle as IdleStrategy | undefined };
}
