/**
 * What tools ask hosts with: a loop with sockets of its own and a clock, that speaks as a client and takes no session.
 */
import type { Clock } from '../clock/clock.js';
import { openClock } from '../clock/open.js';
import { loadHash } from '../native/hash64.js';
import { AddressBook } from '../host/address-book.js';
import { loadCluster, type Cluster, type ClusterConfig, type HostAndPort } from '../host/cluster-config.js';
import type { KeyFile } from '../host/key-file.js';
import { openKeys } from '../host/keyring.js';
import { guardedLogger, silentLogger, type Logger } from '../host/logger.js';
import { checkKeys, optionNames } from '../host/options.js';
import type { TransportKind } from '../host/transport-choice.js';
import { TurnLoop } from '../host/turn-loop.js';
import { CLIENT_SENDER } from '../wire/envelope.js';

export interface InquiryOptions {
  readonly cluster: string | ClusterConfig;
  readonly keys?: string | KeyFile;
  readonly transport?: TransportKind;
  readonly logger?: Logger;
}

const OPTION_NAMES = optionNames<InquiryOptions>({ cluster: true, keys: true, transport: true, logger: true });

/** Who is asked: a host by the id under which it speaks, at an address. */
export interface AskedHost {
  readonly id: number;
  readonly at: HostAndPort;
}

export interface AskingLoop {
  /** The cluster file, checked. */
  readonly cluster: Cluster;
  /** By slot. */
  readonly hosts: readonly AskedHost[];
  /** Open, and not started. Whoever has it closes it, and the clock. */
  readonly loop: TurnLoop;
  readonly clock: Clock;
}

/**
 * Opens sockets; asks nothing yet.
 *
 * Throws JitPaxosError `option-invalid`, `cluster-file-unreadable`, `cluster-file-invalid`, `key-file-unreadable`,
 * `key-file-invalid`, `key-file-exposed`, `host-unresolved`, `address-unavailable`.
 * @param name of the class that asks, for messages
 * @param asked who is asked, at most 31 hosts; default: the replicas of the cluster file
 * @param failed called when the loop has stopped on an error
 */
export async function openAskingLoop(
  name: string,
  options: InquiryOptions,
  failed: (error: unknown) => void,
  asked?: readonly AskedHost[],
): Promise<AskingLoop> {
  checkKeys('option-invalid', `${name}.open`, options, OPTION_NAMES);
  const cluster = loadCluster(options.cluster);
  const keys = openKeys(cluster, options.cluster, options.keys, 'client');
  const hosts = asked ?? cluster.replicas.map((at, id) => ({ id, at }));
  const book = await AddressBook.open({ replicas: hosts.map(({ at }) => at) });
  const logger = guardedLogger(`${name}.open`, options.logger ?? silentLogger);
  const clock = openClock('monotonic');
  let loop: TurnLoop | undefined;
  try {
    loop = new TurnLoop({
      cluster,
      book,
      sender: CLIENT_SENDER,
      transport: options.transport,
      idle: 'block',
      datagramBytes: undefined,
      keys: keys?.ring,
      wireVersion: undefined,
      clock,
      hash: loadHash(),
      notice: (event, fields) => logger.warn(event, fields),
      failed,
    });
    // Slots are ids until they are told otherwise; no two hosts may have one id in between.
    if (asked !== undefined) {
      for (const slot of hosts.keys()) loop.place(slot, undefined);
      for (const [slot, host] of hosts.entries()) loop.place(slot, host);
    }
    await loop.open();
    return { cluster, hosts, loop, clock };
  } catch (error) {
    await loop?.close();
    clock.close();
    throw error;
  }
}
