/**
 * A client that floods, as a separate process: started by bench/fairness.ts and bench/attacks.ts with its setup as JSON,
 * speaks as src/measure/compare/line-child.ts says. It floods from `go` until its stdin ends, then reports how much it sent.
 */
import { createSocket } from 'node:dgram';
import { ClientHost } from '../src/client/client-host.js';
import { resolveAddresses } from '../src/host/cluster-config.js';
import { createTransport, type TransportKind } from '../src/host/transport-choice.js';
import { SendWindow } from '../src/protocol/client/send-window.js';
import { DEFAULT_TRANSPORT, type Address, type Transport } from '../src/transport/transport.js';
import { DEFAULT_DATAGRAM_BYTES, JUMBO_DATAGRAM_BYTES } from '../src/wire/envelope.js';
import { Attacker } from './attacker.js';
import {
  clientSeal,
  type ClientSeal,
  random,
  writeAskMembers,
  writeRead,
  writeRequest,
  writeStatus,
} from './datagrams.js';
import { paced } from './pace.js';

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
  /** Datagrams a second to each replica. Default: as many as this process can send. Ignored by kinds that are clients. */
  readonly perSecond?: number;
  /** The same, but sent to sockets that nobody reads: it costs the sender as much, and the cluster nothing. */
  readonly elsewhere?: boolean;
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

/** Datagrams to each target between two turns of the event loop. A slower flood sends them more evenly. */
const BURST = 64;
const BURSTS_PER_SECOND = 1_000;
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

/** Datagrams written by `write`, or the same one repeatedly. */
class Flood implements Noise {
  sent = 0;
  private running = false;
  private ended: () => void = () => {};
  private readonly template = new Uint8Array(JUMBO_DATAGRAM_BYTES);
  private readonly head: number;
  private readonly length: number;

  constructor(
    private readonly transport: Transport,
    private readonly targets: readonly number[],
    private readonly seal: ClientSeal,
    private readonly write: (bytes: Uint8Array, offset: number) => number,
    private readonly fresh: boolean,
    private readonly perSecond: number,
    spoil?: (bytes: Uint8Array, length: number) => void,
  ) {
    const { envelope, slot } = seal;
    this.head = envelope.bytesIn(envelope.newest);
    this.length = this.head + write(this.template, this.head);
    envelope.seal(this.template, 0, this.length, slot);
    spoil?.(this.template, this.length);
  }

  start(): void {
    this.running = true;
    if (this.perSecond === Infinity) {
      setImmediate(this.burst);
      return;
    }
    const count = Math.max(1, Math.min(BURST, Math.round(this.perSecond / BURSTS_PER_SECOND)));
    this.ended = paced(this.perSecond / count, () => this.send(count));
  }

  async stop(): Promise<void> {
    this.running = false;
    this.ended();
    await this.transport.close();
  }

  private readonly burst = (): void => {
    if (!this.running) return;
    this.send(BURST);
    setImmediate(this.burst);
  };

  private send(count: number): void {
    const { envelope, slot } = this.seal;
    for (let i = 0; i < count; i++) {
      for (const target of this.targets) {
        const bytes = this.transport.acquire(this.length);
        if (bytes === undefined) break;
        if (this.fresh) {
          this.write(bytes, this.head);
          envelope.seal(bytes, 0, this.length, slot);
        } else bytes.set(this.template.subarray(0, this.length));
        this.transport.send(bytes, this.length, target);
        this.sent++;
      }
    }
    this.transport.flush();
  }
}

interface FloodShape {
  readonly write: (bytes: Uint8Array, offset: number) => number;
  /** Each datagram is written anew. Default: the first one is repeated. */
  readonly fresh?: boolean;
  readonly spoil?: (bytes: Uint8Array, length: number) => void;
  /** To all replicas. Default: to the members. */
  readonly toAll?: boolean;
}

async function floodOf(setup: NoiseSetup, { write, fresh = false, spoil, toAll = false }: FloodShape): Promise<Flood> {
  const seal = clientSeal(setup.cluster, setup.keys);
  const own = await resolveAddresses(seal.cluster);
  const addresses = setup.elsewhere === true ? await bystanders(own.length) : own;
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
    toAll ? [...addresses.keys()] : setup.members,
    seal,
    write,
    fresh,
    setup.perSecond ?? Infinity,
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
    case 'lanes':
      return BusyClient.connect(setup, 4096, 64);
    case 'lanes-hostile':
      // In this process clients keep no window.
      Object.defineProperty(SendWindow.prototype, 'isFull', { get: () => false });
      return BusyClient.connect(setup, 4096, 64);
    case 'large':
      return BusyClient.connect(setup, 64, 40_000);
    case 'ahead':
      return BusyClient.connect(setup, 64, 64, 50_000_000);
    case 'member-only':
      return Astray.open(setup);
    case 'again':
      return floodOf(setup, { write: register });
    case 'unknown':
      return floodOf(setup, { write: request });
    case 'garbage':
      return floodOf(setup, { write: garbage });
    case 'forged':
      return floodOf(setup, { write: garbage, spoil: forge });
    case 'forged-long':
      return floodOf(setup, { write: long, spoil: forge });
    case 'random':
      return floodOf(setup, { write: garbage, spoil: (bytes, length) => void filled(bytes, 0, length) });
    case 'registers':
      return floodOf(setup, { write: register, fresh: true });
    case 'questions':
      return floodOf(setup, { write: (bytes, o) => writeRead(bytes, o, setup.view) });
    case 'status':
      return floodOf(setup, { write: writeStatus, toAll: true });
    case 'members':
      return floodOf(setup, { write: writeAskMembers, toAll: true });
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
