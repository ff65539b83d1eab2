/**
 * The upper limit of node:dgram for the same message pattern: servers that answer, and a client that sends each
 * operation to a quorum of them and waits for all answers. There is no protocol and there are no checks; messages are
 * as long as ours on the wire, and as many share a datagram. Started with its role as JSON; speaks as line-child.ts
 * says.
 *
 * It is written as fast as dgram allows: a trivial `lookup` that avoids the DNS path, no send callbacks, preallocated
 * buffers. A slower baseline would flatter us.
 */
import { createSocket, type Socket } from 'node:dgram';
import { Histogram } from '../../metrics/histogram.js';
import type { Sizes } from './shape.js';

export type DgramEchoSetup =
  | { readonly role: 'server'; readonly index: number; readonly sizes: Sizes }
  | {
      readonly role: 'client';
      readonly ports: readonly number[];
      readonly open: number;
      readonly sizes: Sizes;
      readonly warmupMs: number;
      readonly ms: number;
    };

const NS_PER_MS = 1e6;
/** A datagram that loopback dropped is resent; otherwise the slot would wait forever. */
const RESEND_MS = 100;
/** Slot and number of the operation, at the start of a message. */
const AT_SLOT = 0;
const AT_NUMBER = 4;
const BUFFER_BYTES = 4 << 20;

type Lookup = (host: string, options: unknown, done: (error: null, address: string, family: number) => void) => void;
const numeric: Lookup = (host, _options, done) => done(null, host, 4);

function open(): Promise<Socket> {
  const socket = createSocket({
    type: 'udp4',
    lookup: numeric as never,
    recvBufferSize: BUFFER_BYTES,
    sendBufferSize: BUFFER_BYTES,
  });
  return new Promise((resolve, reject) => socket.once('error', reject).bind(0, '127.0.0.1', () => resolve(socket)));
}

async function serve(index: number, sizes: Sizes): Promise<void> {
  const socket = await open();
  const { envelope, request, datagram } = sizes;
  const answer = index === 0 ? sizes.answer : sizes.otherAnswer;
  const bytes = Buffer.alloc(datagram);
  bytes[0] = index;
  // A send is synchronous as long as the kernel takes it, so the buffer is free again; what the kernel does not take is
  // lost.
  socket.on('message', (message, from) => {
    let at = envelope;
    for (let offset = envelope; offset + request <= message.length; offset += request) {
      bytes.writeInt32BE(message.readInt32BE(offset + AT_SLOT), at + AT_SLOT);
      bytes.writeInt32BE(message.readInt32BE(offset + AT_NUMBER), at + AT_NUMBER);
      at += answer;
      if (at + answer <= datagram) continue;
      socket.send(bytes, 0, at, from.port, from.address);
      at = envelope;
    }
    if (at > envelope) socket.send(bytes, 0, at, from.port, from.address);
  });
  process.stdout.write(`ready ${JSON.stringify({ ports: [socket.address().port] })}\n`);
}

class Client {
  private readonly histogram = new Histogram();
  private readonly bytes: Buffer;
  private readonly numbers: Int32Array;
  /** One bit for each server that has not answered. */
  private readonly missing: Uint32Array;
  private readonly sentMs: Float64Array;
  private untilMs = 0;
  private openSlots = 0;
  private resent = 0;
  private drained: () => void = () => {};

  constructor(
    private readonly socket: Socket,
    private readonly setup: Extract<DgramEchoSetup, { role: 'client' }>,
  ) {
    this.bytes = Buffer.alloc(setup.sizes.datagram);
    this.numbers = new Int32Array(setup.open);
    this.missing = new Uint32Array(setup.open);
    this.sentMs = new Float64Array(setup.open);
    socket.on('message', (message) => this.take(message));
    setInterval(() => this.sendOldAgain(), RESEND_MS / 2).unref();
  }

  async run(ms: number): Promise<object> {
    const { setup, histogram } = this;
    histogram.reset();
    this.resent = 0;
    const startedNs = Number(process.hrtime.bigint());
    this.untilMs = performance.now() + ms;
    this.openSlots = setup.open;
    await new Promise<void>((resolve) => {
      this.drained = resolve;
      const slots = Array.from({ length: setup.open }, (_, slot) => slot);
      for (const slot of slots) this.renew(slot);
      for (let from = 0; from < slots.length; from += setup.sizes.perDatagram)
        this.send(slots.slice(from, from + setup.sizes.perDatagram));
    });
    return {
      operations: histogram.count,
      resent: this.resent,
      startedNs,
      endedNs: Number(process.hrtime.bigint()),
      histogram: histogram.toData(),
    };
  }

  private take(message: Buffer): void {
    const { sizes, open } = this.setup;
    const server = message[0]!;
    const answer = server === 0 ? sizes.answer : sizes.otherAnswer;
    const nowMs = performance.now();
    const ready: number[] = [];
    for (let at = sizes.envelope; at + answer <= message.length; at += answer) {
      const slot = message.readInt32BE(at + AT_SLOT);
      if (
        slot < 0 ||
        slot >= open ||
        message.readInt32BE(at + AT_NUMBER) !== this.numbers[slot]! ||
        (this.missing[slot]! & (1 << server)) === 0
      )
        continue;
      this.missing[slot]! &= ~(1 << server);
      if (this.missing[slot] !== 0) continue;
      this.histogram.record((nowMs - this.sentMs[slot]!) * NS_PER_MS);
      if (nowMs < this.untilMs) {
        this.renew(slot);
        ready.push(slot);
      } else {
        this.openSlots -= 1;
      }
    }
    if (ready.length > 0) this.send(ready);
    else if (this.openSlots === 0) this.drained();
  }

  private renew(slot: number): void {
    this.numbers[slot]! += 1;
    this.missing[slot] = 2 ** this.setup.ports.length - 1;
    this.sentMs[slot] = performance.now();
  }

  private send(slots: readonly number[]): void {
    const { bytes, setup, socket } = this;
    let at = setup.sizes.envelope;
    for (const slot of slots) {
      bytes.writeInt32BE(slot, at + AT_SLOT);
      bytes.writeInt32BE(this.numbers[slot]!, at + AT_NUMBER);
      at += setup.sizes.request;
    }
    for (const port of setup.ports) socket.send(bytes, 0, at, port, '127.0.0.1');
  }

  private sendOldAgain(): void {
    const nowMs = performance.now();
    for (let slot = 0; slot < this.setup.open; slot++) {
      if (this.missing[slot] === 0 || nowMs - this.sentMs[slot]! < RESEND_MS) continue;
      this.resent += 1;
      this.send([slot]);
    }
  }
}

async function drive(setup: Extract<DgramEchoSetup, { role: 'client' }>): Promise<void> {
  const socket = await open();
  const client = new Client(socket, setup);
  if (setup.warmupMs > 0) await client.run(setup.warmupMs);
  process.stdin.once(
    'data',
    () =>
      void client
        .run(setup.ms)
        .then((result) => process.stdout.write(`${JSON.stringify(result)}\n`, () => process.exit())),
  );
  process.stdout.write('ready {}\n');
}

const setup = JSON.parse(process.argv[2]!) as DgramEchoSetup;
process.stdin.once('end', () => process.exit());
process.stdin.resume();
await (setup.role === 'server' ? serve(setup.index, setup.sizes) : drive(setup));
