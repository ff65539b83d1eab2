/** PUBLISH. A message changes nothing in the store; it is left among the changes, where front ends find it. */
import { KV_KEY_BYTES_MAX } from '../kv-layout.js';
import type { Call, Handler } from './call.js';

/** PUBLISH channel message. Who receives it is known to front ends alone: each puts its number in place of the 0. */
function publish(call: Call): void {
  const [channel, message] = [call.lengths[1]!, call.lengths[2]!];
  if (channel > KV_KEY_BYTES_MAX)
    return call.error(`ERR the channel has ${channel} bytes, this cluster takes ${KV_KEY_BYTES_MAX}`);
  if (!call.valueFits(message)) return;
  call.copied(message);
  call.store.publish(call.bytes, call.starts[1]!, channel, call.starts[2]!, message);
  call.out.integer(0);
}

export const MESSAGE_HANDLERS: Readonly<Record<string, Handler>> = { publish };
