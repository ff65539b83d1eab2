/** What tests of transports share: options, free ports, waiting, and every transport that this host has. */
import { createSocket } from 'node:dgram';
import { setTimeout as sleep } from 'node:timers/promises';
import { native } from '../../src/native/addon.js';
import { DgramTransport } from '../../src/transport/dgram.js';
import { NativeUdpTransport } from '../../src/transport/native-udp.js';
import {
  DEFAULT_TRANSPORT,
  type Address,
  type Transport,
  type TransportOptions,
} from '../../src/transport/transport.js';
import { DEFAULT_DATAGRAM_BYTES } from '../../src/wire/envelope.js';

/** Why tests of the native transport are skipped; false if it is available. */
export const withoutNative = native.available ? false : native.reason;

export function nativeTransport(overrides: Partial<TransportOptions> = {}): NativeUdpTransport {
  return new NativeUdpTransport(native.addon!, options(overrides));
}

/** Every way to make a transport on this host, by name. */
export const TRANSPORTS: Readonly<Record<string, (overrides?: Partial<TransportOptions>) => Transport>> = {
  dgram: (overrides) => new DgramTransport(options(overrides)),
  ...(native.available
    ? {
        'native, block': (overrides) => nativeTransport({ ...overrides, idle: 'block' }),
        'native, adaptive': (overrides) => nativeTransport({ ...overrides, idle: 'adaptive' }),
        'native, busy': (overrides) => nativeTransport({ ...overrides, idle: 'busy' }),
      }
    : {}),
};

export function options(overrides: Partial<TransportOptions> = {}): TransportOptions {
  return {
    ...DEFAULT_TRANSPORT,
    endpoints: 64,
    replicas: [],
    listen: undefined,
    receive: () => undefined,
    batchEnd: () => undefined,
    notice: () => undefined,
    datagramBytes: DEFAULT_DATAGRAM_BYTES,
    ...overrides,
  };
}

export async function freeAddress(family: 4 | 6): Promise<Address> {
  const host = family === 6 ? '::1' : '127.0.0.1';
  const socket = createSocket(family === 6 ? 'udp6' : 'udp4');
  await new Promise<void>((resolve) => socket.bind(0, host, resolve));
  const { port } = socket.address();
  await new Promise<void>((resolve) => socket.close(() => resolve()));
  return { host, port, family };
}

export async function until(condition: () => boolean, what: string): Promise<void> {
  for (let i = 0; i < 2000; i++) {
    if (condition()) return;
    await sleep(2);
  }
  throw new Error(`timed out waiting until ${what}`);
}
