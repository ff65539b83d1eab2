/**
 * One end of a plain copy over a transport of this project: the baseline of a joiner that copies the state. One process
 * holds the bytes, the other takes them, with a window of datagrams on their way. Nothing is sealed or hashed.
 * Speaks as src/measure/compare/line-child.ts says.
 */
import { createTransport, type TransportKind } from '../../src/host/transport-choice.js';
import { DEFAULT_TRANSPORT, type Address, type Transport } from '../../src/transport/transport.js';
import { copyBytes } from '../../src/wire/copy.js';
import { JUMBO_DATAGRAM_BYTES } from '../../src/wire/envelope.js';
import { readI32, writeI32 } from '../../src/wire/u64.js';

export interface CopyEndSetup {
  readonly transport: string;
  readonly takes: boolean;
  /** Of the end that holds the bytes, and of the one that takes them. */
  readonly ports: readonly [number, number];
  readonly bytes: number;
}

/** Number of the datagram, before the bytes of each. The taker answers with the number of the one that it lacks. */
const HEADER_BYTES = 4;
const CHUNK_BYTES = JUMBO_DATAGRAM_BYTES - HEADER_BYTES;
const WINDOW = 64;
const ANSWER_EVERY = 16;
const ASK_AGAIN_MS = 10;

class CopyEnd {
  readonly content: Uint8Array;
  readonly chunks: number;
  private readonly transport: Transport;
  private readonly other: number;
  /** The first chunk that was not sent, or that did not come. */
  private next = 0;
  private answered = 0;
  private movedMs = 0;

  constructor(
    { transport, takes, ports, bytes }: CopyEndSetup,
    private readonly whole: () => void,
  ) {
    this.content = new Uint8Array(bytes);
    this.chunks = Math.ceil(bytes / CHUNK_BYTES);
    this.other = takes ? 0 : 1;
    const addresses = ports.map((port): Address => ({ host: '127.0.0.1', port, family: 4 }));
    this.transport = createTransport(transport as TransportKind, undefined, {
      ...DEFAULT_TRANSPORT,
      replicas: addresses,
      listen: addresses[takes ? 1 : 0],
      receive: (array, offset, length) =>
        takes ? this.take(array, offset, length) : this.give(readI32(array, offset)),
      batchEnd: () => this.transport.flush(),
      notice: () => undefined,
      datagramBytes: JUMBO_DATAGRAM_BYTES,
    });
  }

  open(): Promise<void> {
    return this.transport.open();
  }

  /** Asks for everything. */
  begin(): void {
    this.ask();
    const timer = setInterval(() => {
      if (this.next === this.chunks) clearInterval(timer);
      else if (performance.now() - this.movedMs >= ASK_AGAIN_MS) this.ask();
    }, ASK_AGAIN_MS);
  }

  private ask(): void {
    this.answered = this.next;
    this.movedMs = performance.now();
    const array = this.transport.acquire(HEADER_BYTES)!;
    writeI32(array, 0, this.next);
    this.transport.send(array, HEADER_BYTES, this.other);
    this.transport.flush();
  }

  private take(array: Uint8Array, offset: number, length: number): void {
    if (readI32(array, offset) !== this.next) return; // those behind a lost one come again
    copyBytes(array, offset + HEADER_BYTES, this.content, this.next * CHUNK_BYTES, length - HEADER_BYTES);
    this.next++;
    if (this.next === this.chunks) this.whole();
    else if (this.next - this.answered >= ANSWER_EVERY) this.ask();
  }

  /** @param wanted what the other end lacks; what it asks for twice was lost */
  private give(wanted: number): void {
    if (wanted === this.answered) this.next = wanted;
    this.answered = wanted;
    const end = Math.min(this.chunks, wanted + WINDOW);
    while (this.next < end) {
      const at = this.next * CHUNK_BYTES;
      const length = Math.min(CHUNK_BYTES, this.content.length - at);
      const array = this.transport.acquire(HEADER_BYTES + length);
      if (array === undefined) break; // what it has sent comes first, and is asked for again
      writeI32(array, 0, this.next++);
      copyBytes(this.content, at, array, HEADER_BYTES, length);
      this.transport.send(array, HEADER_BYTES + length, this.other);
    }
    this.transport.flush();
  }
}

async function main(setup: CopyEndSetup): Promise<void> {
  let beganMs = 0;
  const end = new CopyEnd(setup, () =>
    process.stdout.write(`${JSON.stringify({ seconds: (performance.now() - beganMs) / 1e3 })}\n`),
  );
  await end.open();
  process.stdin.once('end', () => process.exit());
  process.stdin.on('data', () => {
    beganMs = performance.now();
    end.begin();
  });
  process.stdout.write('ready {}\n');
}

main(JSON.parse(process.argv[2]!) as CopyEndSetup).catch((error: unknown) => {
  process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
  process.exit(1);
});
