/**
 * How a control channel begins. The coordinator says which cluster it measures, which key it speaks under, and a random
 * number; the agent answers with a random number of its own. Both derive the keys of the two directions from the secret
 * and both numbers. Neither has proven anything yet: the first frame that opens proves that the other end has the
 * secret, and that it is not a recording, because the agent's number is new on every connection.
 *
 *     hello:  "JPXA", version, 3 zeros, cluster id (8), key id (4), number (16)
 *     answer: "JPXA", version, verdict, 2 zeros, number (16)
 *
 * A verdict other than 0 is not authenticated: it is for the person at the coordinator, and says nothing that an
 * eavesdropper does not know.
 *
 * The keys are derived as those of encrypted datagrams are (src/wire/streams.ts), from the same secrets. What they are
 * derived from begins with a label that no datagram's has, so the two never meet.
 */
import { createHash, randomBytes } from 'node:crypto';
import type { Keyring } from '../../host/keyring.js';

const MAGIC = Buffer.from('JPXA', 'latin1');
/** Of the control channel. An agent takes orders only of its own version of the program, so there is no translation. */
const CHANNEL_VERSION = 1;
const NUMBER_BYTES = 16;
const KEY_BYTES = 16;
const AT_VERSION = 4;
const AT_VERDICT = 5;
const AT_CLUSTER = 8;
const AT_KEY = 16;
const AT_HELLO_NUMBER = 20;
const AT_ANSWER_NUMBER = 8;
export const HELLO_BYTES = AT_HELLO_NUMBER + NUMBER_BYTES;
export const ANSWER_BYTES = AT_ANSWER_NUMBER + NUMBER_BYTES;
const LABEL = Buffer.from('jitpaxos agent channel 1', 'latin1');

/** What an agent thinks of a hello. `key`: it has none of that id. */
const VERDICTS = ['go-on', 'version', 'cluster', 'key'] as const;
export type Verdict = (typeof VERDICTS)[number];

/** The keys of one process, for its control channels. Key id 0 is that of a cluster without keys, and is no secret. */
export interface ControlKeys {
  /** The key under which a coordinator speaks. */
  readonly own: number;
  /** Derives 16 bytes from a key and `identity`; undefined if there is no such key. */
  derive(keyId: number, identity: Uint8Array): Uint8Array | undefined;
  /** False for a read-only key. */
  mayWrite(keyId: number): boolean;
}

/** @param ring undefined in a cluster without keys */
export function controlKeys(ring: Keyring | undefined): ControlKeys {
  if (ring === undefined)
    return {
      own: 0,
      derive: (keyId, identity) =>
        keyId === 0 ? createHash('sha256').update(identity).digest().subarray(0, KEY_BYTES) : undefined,
      mayWrite: () => true,
    };
  return {
    own: ring.idOf(ring.own),
    derive: (keyId, identity) => {
      const slot = keyId === 0 ? -1 : ring.find(keyId);
      if (slot < 0) return undefined;
      const key = new Uint8Array(KEY_BYTES);
      ring.streamKey(slot, identity, key);
      return key;
    },
    mayWrite: (keyId) => ring.mayWrite(ring.find(keyId)),
  };
}

/** The two keys of a connection. */
export interface ChannelKeys {
  readonly toAgent: Uint8Array;
  readonly toCoordinator: Uint8Array;
}

/** @param cluster the cluster file's id, 16 hexadecimal digits */
export function helloOf(cluster: string, keyId: number): Buffer {
  const hello = Buffer.alloc(HELLO_BYTES);
  MAGIC.copy(hello);
  hello[AT_VERSION] = CHANNEL_VERSION;
  Buffer.from(cluster, 'hex').copy(hello, AT_CLUSTER);
  hello.writeUInt32BE(keyId, AT_KEY);
  randomBytes(NUMBER_BYTES).copy(hello, AT_HELLO_NUMBER);
  return hello;
}

/** The agent's side. Undefined if these bytes are no hello: whoever sent them gets no answer. */
export function answerTo(
  hello: Buffer,
  cluster: string,
  keys: ControlKeys,
):
  | { readonly answer: Buffer; readonly verdict: Verdict; readonly keyId: number; readonly keys?: ChannelKeys }
  | undefined {
  if (hello.length !== HELLO_BYTES || !hello.subarray(0, AT_VERSION).equals(MAGIC)) return undefined;
  const keyId = hello.readUInt32BE(AT_KEY);
  const answer = Buffer.alloc(ANSWER_BYTES);
  MAGIC.copy(answer);
  answer[AT_VERSION] = CHANNEL_VERSION;
  randomBytes(NUMBER_BYTES).copy(answer, AT_ANSWER_NUMBER);
  const refused = (verdict: Verdict): { answer: Buffer; verdict: Verdict; keyId: number } => {
    answer[AT_VERDICT] = VERDICTS.indexOf(verdict);
    return { answer, verdict, keyId };
  };
  if (hello[AT_VERSION] !== CHANNEL_VERSION) return refused('version');
  if (hello.subarray(AT_CLUSTER, AT_KEY).toString('hex') !== cluster) return refused('cluster');
  const derived = channelKeys(keys, keyId, hello, answer);
  return derived === undefined ? refused('key') : { answer, verdict: 'go-on', keyId, keys: derived };
}

/** The coordinator's side: what the agent thinks, and the keys. Undefined if these bytes are no answer. */
export function readAnswer(
  hello: Buffer,
  answer: Buffer,
  keys: ControlKeys,
): { readonly verdict: Verdict; readonly keys?: ChannelKeys | undefined } | undefined {
  if (answer.length !== ANSWER_BYTES || !answer.subarray(0, AT_VERSION).equals(MAGIC)) return undefined;
  if (answer[AT_VERSION] !== CHANNEL_VERSION) return { verdict: 'version' };
  const verdict = VERDICTS[answer[AT_VERDICT]!];
  if (verdict === undefined) return undefined;
  return verdict === 'go-on' ? { verdict, keys: channelKeys(keys, keys.own, hello, answer) } : { verdict };
}

/** Both messages are part of what the keys are derived from, so that nobody in between can change either. */
function channelKeys(keys: ControlKeys, keyId: number, hello: Buffer, answer: Buffer): ChannelKeys | undefined {
  const derive = (direction: number): Uint8Array | undefined =>
    keys.derive(keyId, Buffer.concat([LABEL, Buffer.of(direction), hello, answer]));
  const toAgent = derive(0);
  const toCoordinator = derive(1);
  return toAgent === undefined || toCoordinator === undefined ? undefined : { toAgent, toCoordinator };
}
