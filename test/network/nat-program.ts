/**
 * A translator of addresses (NAT) between clients and replicas, which also loses and delays: a process of its own on a
 * router. It needs neither conntrack nor netem in the kernel.
 *
 * Clients know its address and ports as those of the replicas. To each replica it sends from a port of its own, one for
 * each client. On SIGUSR2 it forgets all of these and takes new ones, as such devices do after a while, or at a restart.
 * What comes to a forgotten port is lost.
 *
 * Run with the settings as JSON; prints `ready`. At the end of its stdin it prints what it counted.
 */
import { createSocket, type RemoteInfo, type Socket } from 'node:dgram';
import { isIPv6 } from 'node:net';
import { Random } from '../../src/sim/random.js';

export interface NatSettings {
  /** Where it listens: one port for each replica, from this one on. */
  readonly host: string;
  readonly port: number;
  readonly replicas: readonly { readonly host: string; readonly port: number }[];
  /** Share of datagrams that are lost, each way. */
  readonly loss: number;
  /** Every datagram is this late, and up to as much again, so that some overtake others, ms. */
  readonly delayMs: number;
  /** It forgets all ports whenever this many datagrams came from clients; 0: never by itself. */
  readonly forgetAfter: number;
  readonly seed: number;
}

export interface NatCounts {
  there: number;
  back: number;
  lost: number;
  /** How often all ports were forgotten. */
  forgotten: number;
}

/** Datagrams that are held back at once; further ones are lost. */
const HELD_MAX = 4_096;
/** Ports that are open at once; without a free one a datagram is lost. */
const PORTS_MAX = 256;

const settings = JSON.parse(process.argv[2]!) as NatSettings;
const { loss, delayMs, forgetAfter } = settings;
const random = new Random(settings.seed);
const counts: NatCounts = { there: 0, back: 0, lost: 0, forgotten: 0 };
/** By client and replica. */
const ports = new Map<string, Promise<Socket>>();
let held = 0;

async function bound(host: string, port: number): Promise<Socket> {
  const socket = createSocket({ type: isIPv6(host) ? 'udp6' : 'udp4', recvBufferSize: 1 << 20 });
  await new Promise<void>((resolve, reject) => socket.once('error', reject).bind(port, host, () => resolve()));
  socket.removeAllListeners('error').on('error', () => undefined); // refused: it is lost
  return socket;
}

function carry(send: () => void): void {
  if ((loss > 0 && random.chance(loss)) || held === HELD_MAX) {
    counts.lost++;
    return;
  }
  if (delayMs === 0) return send();
  held++;
  setTimeout(() => {
    held--;
    send();
  }, delayMs + random.between(0, delayMs));
}

function forget(): void {
  counts.forgotten++;
  for (const port of ports.values()) void port.then((socket) => socket.close());
  ports.clear();
}

process.on('SIGUSR2', forget);

for (const [replica, at] of settings.replicas.entries()) {
  const front = await bound(settings.host, settings.port + replica);
  const back = async (client: RemoteInfo): Promise<Socket> => {
    const socket = await bound(isIPv6(at.host) ? '::' : '0.0.0.0', 0);
    socket.on('message', (bytes) => {
      counts.back++;
      carry(() => front.send(bytes, client.port, client.address));
    });
    return socket;
  };
  front.on('message', (bytes, client) => {
    counts.there++;
    if (forgetAfter > 0 && counts.there % forgetAfter === 0) forget();
    const name = `${client.address} ${client.port} ${replica}`;
    let port = ports.get(name);
    if (port === undefined) {
      if (ports.size === PORTS_MAX) return void counts.lost++;
      ports.set(name, (port = back(client)));
    }
    void port.then((socket) =>
      carry(() => {
        try {
          socket.send(bytes, at.port, at.host);
        } catch {
          counts.lost++; // its port was forgotten meanwhile
        }
      }),
    );
  });
}

process.stdin
  .once('end', () => {
    console.log(JSON.stringify(counts));
    process.exit(0);
  })
  .resume();
console.log('ready');
