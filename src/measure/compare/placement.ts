/** Where the processes of a comparison run: all on loopback, or servers and clients in two network namespaces. */
import type { Namespace } from '../namespaces.js';

export interface Placement {
  /** The servers' namespace. Clients are where this process is. */
  readonly servers: Namespace;
  /** IPv4 addresses of both, on the cable between them. */
  readonly serverAddress: string;
  readonly clientAddress: string;
}

/** The address of the servers of a comparison. */
export function serverAddress(placement: Placement | undefined): string {
  return placement?.serverAddress ?? LOOPBACK;
}

export function clientAddress(placement: Placement | undefined): string {
  return placement?.clientAddress ?? LOOPBACK;
}

const LOOPBACK = '127.0.0.1';
