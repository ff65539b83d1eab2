/**
 * Measures what a message leaves on the JavaScript heap on its way through outbox and reader, and prints it as JSON.
 * With the argument `keys` it is encrypted and decrypted. Run by transport.test.ts with `--expose-gc` and a young generation so large that nothing is collected in between.
 * `control` allocates one view per message: if it does not show, the measurement is blind.
 */
import type { KeyFile } from '../../src/host/key-file.js';
import { Keyring } from '../../src/host/keyring.js';
import { loadHash } from '../../src/native/hash64.js';
import { ArrayPool } from '../../src/transport/array-pool.js';
import { DatagramOutbox } from '../../src/transport/datagram-outbox.js';
import { DatagramReader } from '../../src/transport/datagram-reader.js';
import { EndpointTable } from '../../src/transport/endpoint-table.js';
import type { Transport } from '../../src/transport/transport.js';
import { CLIENT_SENDER, DEFAULT_DATAGRAM_BYTES, Envelope } from '../../src/wire/envelope.js';
import { begin } from '../../src/wire/layout.js';
import { Request } from '../../src/wire/messages.js';
import { writeU16 } from '../../src/wire/u64.js';
import { presentPeers } from './present-peers.js';

const MESSAGES = 1_000_000;
const A_TURN = 16;
const OPERATION_BYTES = 64;
const DESTINATIONS = 3;
const CLIENTS = 50;

const hash = loadHash();
const pool = new ArrayPool(DEFAULT_DATAGRAM_BYTES, 64, 4);
const endpoints = new EndpointTable(DESTINATIONS, 64);
const hosts = Array.from({ length: CLIENTS }, (_, i) => `10.0.0.${i}`);
const KEY: KeyFile['keys'][number] = { id: 1, role: 'client', secret: '17'.repeat(32) };
const ring =
  process.argv[2] === 'keys'
    ? new Keyring({ schema: 'jitpaxos.keys/1', cluster: '0000000100000002', use: 1, keys: [KEY] }, true)
    : undefined;
const envelope = new Envelope(hash, 1, 2, CLIENT_SENDER, 3, ring);
let datagrams = 0;
let heard = 0;

const received = new Uint8Array(DEFAULT_DATAGRAM_BYTES);

/**
 * Sent datagrams are read at once, as if they came from one of many clients: from one array, like the one into which
 * every transport receives.
 */
const transport: Pick<Transport, 'acquire' | 'release' | 'send' | 'flush' | 'sender'> = {
  acquire: (length) => pool.acquire(length),
  release: (bytes) => pool.release(bytes),
  send: (bytes, length) => {
    datagrams++;
    received.set(bytes);
    reader.read(received, 0, length);
    pool.release(bytes);
  },
  flush: () => undefined,
  sender: () => endpoints.intern(hosts[datagrams % CLIENTS]!, 5000 + (datagrams % 3)),
};
const outbox = new DatagramOutbox(transport as Transport, envelope, DEFAULT_DATAGRAM_BYTES, presentPeers(3, ring));
const reader = new DatagramReader(
  envelope,
  transport,
  true,
  (_bytes, _offset, length, from) => {
    if (length > 0 && from >= DESTINATIONS) heard++;
  },
  presentPeers(3, ring),
  ring,
);

const length = Request.size + OPERATION_BYTES;
function turn(): void {
  for (let i = 0; i < A_TURN; i++) {
    const offset = outbox.reserve(i % DESTINATIONS, length);
    begin(Request, outbox.bytes, offset);
    writeU16(outbox.bytes, offset + Request.at.operation, OPERATION_BYTES);
    outbox.commit(length);
  }
  outbox.flush();
}

const kept: unknown[] = [null];
const array = new Uint8Array(100);
function control(): void {
  for (let i = 0; i < A_TURN; i++) kept[0] = array.subarray(i);
}

function measure(run: () => void): { bytesPerMessage: number; nsPerMessage: number } {
  const turns = MESSAGES / A_TURN;
  for (let i = 0; i < turns / 10; i++) run();
  globalThis.gc!();
  const heap = process.memoryUsage().heapUsed;
  const start = process.hrtime.bigint();
  for (let i = 0; i < turns; i++) run();
  const elapsed = Number(process.hrtime.bigint() - start);
  return { bytesPerMessage: (process.memoryUsage().heapUsed - heap) / MESSAGES, nsPerMessage: elapsed / MESSAGES };
}

const results = { messages: measure(turn), control: measure(control), heard };
console.log(JSON.stringify(results));
