/**
 * What a client sends to all replicas when nothing commits: which view are you in (Probe), and please check whether it
 * works (Plea).
 */
import { begin } from '../../wire/layout.js';
import { Plea, Probe } from '../../wire/messages.js';
import { writeI32 } from '../../wire/u64.js';
import type { Outbox } from '../contract.js';
import { ClientCounter } from '../counters.js';

/**
 * @param view the view in which the client sends @param unreachable replicas that it does not hear, one bit each @param
 * counters by ClientCounter
 */
export function askReplicas(
  outbox: Outbox,
  replicas: number,
  view: number,
  plead: boolean,
  unreachable: number,
  counters: Float64Array,
): void {
  for (let r = 0; r < replicas; r++) {
    const o = outbox.reserve(r, Probe.size);
    if (o < 0) continue;
    begin(Probe, outbox.bytes, o);
    writeI32(outbox.bytes, o + Probe.at.view, view);
    outbox.commit(Probe.size);
    counters[ClientCounter.probes]!++;
    if (!plead) continue;
    const p = outbox.reserve(r, Plea.size);
    if (p < 0) continue;
    begin(Plea, outbox.bytes, p);
    writeI32(outbox.bytes, p + Plea.at.view, view);
    writeI32(outbox.bytes, p + Plea.at.unreachable, unreachable);
    outbox.commit(Plea.size);
    counters[ClientCounter.pleas]!++;
  }
}
