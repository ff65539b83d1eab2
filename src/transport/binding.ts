/** Binding sockets, for all transports: the addresses, and the messages if it fails. */
import { JitPaxosError } from '../errors.js';
import type { Address, ListenFrom, Notice } from './transport.js';

/**
 * The address to bind. Loopback suffices if all peers are on this host and stay there: a port that the network cannot
 * reach needs no firewall.
 */
function anyAddress(family: 4 | 6, peers: readonly Address[]): string {
  const stays = peers.length > 0 && peers.every(({ name }) => name === undefined);
  if (family === 6) return stays && peers.every(({ host }) => host === '::1') ? '::1' : '::';
  return stays && peers.every(({ host }) => host.startsWith('127.')) ? '127.0.0.1' : '0.0.0.0';
}

/** The sockets that a transport needs: one for the family it listens at, and one for each family of its peers. */
export function bindingsOf(listen: Address | undefined, replicas: readonly Address[]): Address[] {
  const bindings: Address[] = [];
  for (const family of [4, 6] as const) {
    const peers = replicas.filter((address) => address.family === family && address.host !== '');
    if (listen?.family === family) bindings.push(listen);
    else if (peers.length > 0) bindings.push({ host: anyAddress(family, peers), port: 0, family });
  }
  return bindings;
}

/** Where to open a socket if a replica moved to an address family without one. */
export function bindingFor(family: 4 | 6): Address {
  return { host: anyAddress(family, []), port: 0, family };
}

/** Reports that this host cannot send to a replica's new address. */
export function noticeUnbound(notice: Notice, { host, name }: Address, error: unknown): void {
  notice('transport.no-socket', {
    host,
    name,
    error: messageOf(error),
    next: 'this host has no socket for such addresses; see whether it has IPv6, or let the name stand for an address that it can reach',
  });
}

/** What an operator does about a port that is taken, and about an address that is not one of the host. */
const CURES: Readonly<Record<ListenFrom, { readonly port: string; readonly address: string }>> = {
  file: {
    port: 'give the replica another port in the cluster file',
    address: 'the replica’s address in the cluster file has to be one of this host',
  },
  flag: {
    port: 'give another port with --listen (library: listen)',
    address: 'the address that --listen (library: listen) gives has to be one of this host',
  },
  members: {
    port: 'start it with --listen at another port, then list that with jitpaxos member move',
    address:
      'the members list this address for the replica, and it is none of this host: start it with --listen at one, then list that with jitpaxos member move',
  },
};

/** Makes a JitPaxosError `port-in-use` or `address-unavailable`. */
export function bindError(
  error: NodeJS.ErrnoException,
  host: string,
  port: number,
  from: ListenFrom = 'file',
): JitPaxosError {
  const where = host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;
  if (error.code === 'EADDRINUSE') {
    return new JitPaxosError(
      'port-in-use',
      `another socket listens at UDP ${where}; stop what uses it (\`ss -ulpn 'sport = :${port}'\` shows it), or ${CURES[from].port}`,
      error,
    );
  }
  const cure =
    error.code === 'EACCES' ? 'use a port from 1024 on, or allow this process to bind it' : CURES[from].address;
  return new JitPaxosError('address-unavailable', `UDP ${where} cannot be bound (${messageOf(error)}); ${cure}`, error);
}

/** Linux first limits the request to the sysctl, then doubles it for its own bookkeeping. */
export function checkBuffer(notice: Notice, direction: 'receive' | 'send', gotBytes: number, askedBytes: number): void {
  const usableBytes = process.platform === 'linux' ? gotBytes / 2 : gotBytes;
  if (usableBytes >= askedBytes) return;
  const sysctl = direction === 'receive' ? 'net.core.rmem_max' : 'net.core.wmem_max';
  notice('transport.small-buffer', {
    direction,
    askedBytes,
    gotBytes: usableBytes,
    next: `bursts may be lost; raise it: sysctl -w ${sysctl}=${askedBytes}`,
  });
}

/** Reports once that sends fail, and again only after a send has succeeded. */
export function noticeSendFailing(notice: Notice, error: string): void {
  notice('transport.send-failing', { error, next: 'check the route to the other hosts and this host’s firewall' });
}

export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
