/**
 * A client that floods, as a separate process: started by bench/fairness.ts with its setup as JSON, speaks as
 * src/measure/compare/line-child.ts says. It floods from `go` until its stdin ends, then reports how much it sent.
 */
import { createSocket } from 'node:dgram';
import { Attacker } from './attacker.js';
import { ClientHost } from '../src/client/client-host.js';
import { loadHash } from '../src/native/hash64.js';
import { REGISTER_BYTES, REGISTER_LANE } from '../src/protocol/log/sessions.js';
import { loadCluster, resolveAddresses } from '../src/host/cluster-config.js';
import { openKeys } from '../src/host/keyring.js';
import { createTransport, type TransportKind } from '../src/host/transport-choice.js';
import { DEFAULT_TRANSPORT, type Address, type Transport } from '../src/transport/transport.js';
import { CLIENT_SENDER, DEFAULT_DATAGRAM_BYTES, Envelope, JUMBO_DATAGRAM_BYTES } from '../src/wire/envelope.js';
import { begin } from '../src/wire/layout.js';
import { Request, RequestFlag } from '../src/wire/messages.js';
import { writeI32, writeU16 } from '../src/wire/u64.js';

export interface NoiseSetup {
  readonly kind: string;
  readonly cluster: string;
  readonly transport: TransportKind;
  /** Replicas that it floods: the members of the view. */
  readonly members: readonly number[];
  readonly view: number;
  readonly primary: number;
  /** A key file of its own. Default: the one of all clients. */
  readonly keys?: string;
}

export interface NoiseResult {
  /** Datagrams; for the kinds that are clients, operations. */
  readonly sent: number;
  readonly seconds: number;
}

interface Noise {
  start(): void;
  stop(): Promise<void>;
  readonly sent: number;
}

/** Datagrams between two turns of the event loop. */
const BURST = 64;
/** Length of a long datagram. */
const LONG_BYTES = 8_900;

/** A normal client with a closed loop of this many operations, each of this many bytes. */
class BusyClient implements Noise {
  sent = 0;
  private running = false;
  private readonly operation: Uint8Array;

  private constructor(bytes: number) {
    this.operation = new Uint8Array(bytes).fill(7);
  }

  static async connect(setup: NoiseSetup, lanes: number, bytes: number, leadNs = 0): Promise<BusyClient> {
    const client = new BusyClient(bytes);
    client.host = await ClientHost.connect(
      {
        cluster: setup.cluster,
        transport: setup.transport,
        lanes,
        leadNs,
        ...(setup.keys === undefined ? {} : { keys: setup.keys }),
      },
      {
        completed: (lane) => client.submit(lane),
        ready: () => {
          if (client.running) client.start();
        },
        failed: (error) => fail(error),
      },
    );
    return client;
  }
  private host!: ClientHost;

  start(): void {
    this.running = true;
    for (let lane = 0; lane < this.host.lanes; lane++) if (this.host.isIdle(lane)) this.submit(lane);
  }

  async stop(): Promise<void> {
    this.running = false;
    await this.host.close();
  }

  private submit(lane: number): void {
    if (!this.running || !this.host.ready) return;
    this.sent++;
    this.host.submit(lane, this.operation, 0, this.operation.length, Infinity);
  }
}

/** Requests to one member only, which the primary never sees. */
class Astray implements Noise {
  private constructor(
    private readonly attacker: Attacker,
    private readonly setup: NoiseSetup,
  ) {}

  static async open(setup: NoiseSetup): Promise<Astray> {
    return new Astray(await Attacker.open(setup.cluster, setup.keys), setup);
  }

  get sent(): number {
    return this.attacker.sent;
  }

  start(): void {
    const { view, members, primary } = this.setup;
    this.attacker.start({
      view,
      targets: members.filter((id) => id !== primary).slice(0, 1),
      perSecond: 500,
      aheadMs: 0,
      queries: false,
      operation: new Uint8Array(64),
    });
  }

  async stop(): Promise<void> {
    this.attacker.close();
  }
}

/** Datagrams written by `write`, or the same one repeatedly, as fast as the transport takes them. */
class Flood implements Noise {
  sent = 0;
  private running = false;
  private readonly template = new Uint8Array(JUMBO_DATAGRAM_BYTES);
  private readonly head: number;
  private readonly length: number;

  constructor(
    private readonly transport: Transport,
    private readonly targets: readonly number[],
    private readonly envelope: Envelope,
    private readonly slot: number,
    private readonly write: (bytes: Uint8Array, offset: number) => number,
    private readonly fresh: boolean,
    spoil?: (bytes: Uint8Array, length: number) => void,
  ) {
    this.head = envelope.bytesIn(envelope.newest);
    this.length = this.head + write(this.template, this.head);
    envelope.seal(this.template, 0, this.length, slot);
    spoil?.(this.template, this.length);
  }

  start(): void {
    this.running = true;
    setImmediate(this.burst);
  }

  async stop(): Promise<void> {
    this.running = false;
    await this.transport.close();
  }

  private readonly burst = (): void => {
    if (!this.running) return;
    for (let i = 0; i < BURST; i++) {
      for (const target of this.targets) {
        const bytes = this.transport.acquire(this.length);
        if (bytes === undefined) break;
        if (this.fresh) {
          this.write(bytes, this.head);
          this.envelope.seal(bytes, 0, this.length, this.slot);
        } else bytes.set(this.template.subarray(0, this.length));
        this.transport.send(bytes, this.length, target);
        this.sent++;
      }
    }
    this.transport.flush();
    setImmediate(this.burst);
  };
}

/** A Request of 64 bytes, or a Register, of a random session. */
function writeRequest(bytes: Uint8Array, o: number, register: boolean): number {
  const length = register ? REGISTER_BYTES : 64;
  const { at } = Request;
  begin(Request, bytes, o);
  writeI32(bytes, o + at.session, random());
  writeI32(bytes, o + at.session + 4, random() | 1);
  writeU16(bytes, o + at.lane, register ? REGISTER_LANE : 0);
  writeI32(bytes, o + at.request, 1);
  bytes[o + at.flags] = register ? RequestFlag.register : 0;
  const now = BigInt(Date.now()) * 1_000_000n;
  const [hi, lo] = [Number(now >> 32n) | 0, Number(now & 0xffffffffn) | 0];
  writeI32(bytes, o + at.timestamp, hi);
  writeI32(bytes, o + at.timestamp + 4, lo);
  writeU16(bytes, o + at.operation, length);
  const operation = o + Request.size;
  for (let i = 0; i < length; i++) bytes[operation + i] = 0;
  if (register) {
    writeI32(bytes, operation, random());
    writeI32(bytes, operation + 4, random());
    writeU16(bytes, operation + 8, 64);
    writeI32(bytes, operation + 10, hi);
    writeI32(bytes, operation + 14, lo);
  }
  return Request.size + length;
}

function random(): number {
  return (Math.random() * 0x1_0000_0000) | 0;
}

async function floodOf(
  setup: NoiseSetup,
  write: (bytes: Uint8Array, offset: number) => number,
  fresh: boolean,
  addresses: readonly Address[],
  spoil?: (bytes: Uint8Array, length: number) => void,
): Promise<Flood> {
  const cluster = loadCluster(setup.cluster);
  const keys = openKeys(cluster, setup.cluster, undefined, 'client')?.ring;
  const transport = createTransport(setup.transport, undefined, {
    ...DEFAULT_TRANSPORT,
    endpoints: 1,
    replicas: addresses,
    listen: undefined,
    datagramBytes: DEFAULT_DATAGRAM_BYTES,
    receive: () => {},
    batchEnd: () => {},
    notice: () => {},
  });
  await transport.open();
  return new Flood(
    transport,
    setup.members,
    new Envelope(loadHash(), cluster.idHi, cluster.idLo, CLIENT_SENDER, cluster.replicas.length, keys),
    keys?.own ?? -1,
    write,
    fresh,
    spoil,
  );
}

/** Sockets that nobody reads, one for each replica: sending there costs the sender as much as sending to replicas. */
async function bystanders(count: number): Promise<Address[]> {
  return Promise.all(
    Array.from({ length: count }, () => {
      const socket = createSocket('udp4');
      return new Promise<Address>((resolve) =>
        socket.bind(0, '127.0.0.1', () => resolve({ host: '127.0.0.1', port: socket.address().port, family: 4 })),
      );
    }),
  );
}

async function noiseOf(setup: NoiseSetup): Promise<Noise> {
  const addresses = await resolveAddresses(loadCluster(setup.cluster));
  const request = (bytes: Uint8Array, o: number): number => writeRequest(bytes, o, false);
  const register = (bytes: Uint8Array, o: number): number => writeRequest(bytes, o, true);
  const filled = (bytes: Uint8Array, from: number, length: number): number => {
    for (let i = 0; i < length; i++) bytes[from + i] = random();
    return length;
  };
  const garbage = (bytes: Uint8Array, o: number): number => filled(bytes, o, 64);
  const long = (bytes: Uint8Array, o: number): number => filled(bytes, o, LONG_BYTES - o);
  const forge = (bytes: Uint8Array, length: number): void => void (bytes[length - 1]! ^= 1);
  switch (setup.kind) {
    case 'elsewhere':
      return floodOf(setup, request, false, await bystanders(addresses.length));
    case 'lanes':
      return BusyClient.connect(setup, 4096, 64);
    case 'large':
      return BusyClient.connect(setup, 64, 40_000);
    case 'ahead':
      return BusyClient.connect(setup, 64, 64, 50_000_000);
    case 'member-only':
      return Astray.open(setup);
    case 'again':
      return floodOf(setup, register, false, addresses);
    case 'unknown':
      return floodOf(setup, request, false, addresses);
    case 'garbage':
      return floodOf(setup, garbage, false, addresses);
    case 'forged':
      return floodOf(setup, garbage, false, addresses, forge);
    case 'forged-long':
      return floodOf(setup, long, false, addresses, forge);
    case 'random':
      return floodOf(setup, garbage, false, addresses, (bytes, length) => void filled(bytes, 0, length));
    case 'registers':
      return floodOf(setup, register, true, addresses);
    default:
      throw new Error(`no noise is called ${setup.kind}`);
  }
}

function fail(error: unknown): never {
  process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
  process.exit(1);
}

async function main(): Promise<void> {
  const noise = await noiseOf(JSON.parse(process.argv[2]!) as NoiseSetup);
  let startedMs = 0;
  process.stdin.on('data', () => {
    startedMs = performance.now();
    noise.start();
  });
  process.stdin.on('end', () => {
    const result: NoiseResult = { sent: noise.sent, seconds: (performance.now() - startedMs) / 1000 };
    void noise.stop().then(() => process.stdout.write(`${JSON.stringify(result)}\n`, () => process.exit()));
  });
  process.stdout.write('ready {}\n');
}

await main().catch(fail);
