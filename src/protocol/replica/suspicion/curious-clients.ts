/** Clients that asked while no view served them: they are told when one starts here. May be changed freely. */
import type { Hosts } from '../hosts.js';
import type { Sender } from '../replica-sender.js';

/** Clients that are remembered; those beyond have to ask again. */
const CURIOUS_MAX = 64;

export class CuriousClients {
  private readonly endpoints = new Int32Array(CURIOUS_MAX);
  private count = 0;

  constructor(
    private readonly hosts: Hosts,
    private readonly sender: Sender,
  ) {}

  /** Ignores an endpoint that is a replica's, and one for which there is no room. */
  remember(endpoint: number): void {
    if (
      this.hosts.has(endpoint) ||
      this.count === CURIOUS_MAX ||
      this.endpoints.subarray(0, this.count).includes(endpoint)
    )
      return;
    this.endpoints[this.count++] = endpoint;
  }

  tell(): void {
    for (let i = 0; i < this.count; i++) this.sender.probeReply(this.endpoints[i]!, 0, true);
    this.forget();
  }

  forget(): void {
    this.count = 0;
  }
}
