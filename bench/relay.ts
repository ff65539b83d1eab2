/**
 * Stands between one client and one replica. What it sends to the replica comes from the address that the replica knows
 * as the client's, so it can do what an attacker can who forges that address.
 */
import { createSocket, type Socket } from 'node:dgram';
import { readI32 } from '../src/wire/u64.js';

const HOST = '127.0.0.1';
const BUFFER_BYTES = 4 << 20;
/** Where an envelope of any version has its key id. */
const AT_KEY = 19;

export class Relay {
  /** Datagrams to the client, which may not have spoken yet, by the id of their key, which is always in clear. */
  readonly answers = new Map<number, number>();
  private client = 0;

  private constructor(
    private readonly front: Socket,
    private readonly back: Socket,
    private readonly port: number,
  ) {
    front.on('message', (bytes, { port: from }) => {
      this.client = from;
      this.forge(bytes);
    });
    back.on('message', (bytes) => {
      const key = readI32(bytes, AT_KEY);
      this.answers.set(key, (this.answers.get(key) ?? 0) + 1);
      if (this.client !== 0) front.send(bytes, this.client, HOST);
    });
  }

  /** @param port of the replica, on this host */
  static async open(port: number): Promise<Relay> {
    const [front, back] = await Promise.all([bound(), bound()]);
    return new Relay(front, back, port);
  }

  /** Where the client finds the replica. */
  get address(): string {
    return `${HOST}:${this.front.address().port}`;
  }

  /** Sends to the replica, from the client's address. */
  forge(bytes: Uint8Array): void {
    this.back.send(bytes, this.port, HOST);
  }

  close(): void {
    this.front.close();
    this.back.close();
  }
}

async function bound(): Promise<Socket> {
  const socket = createSocket({
    type: 'udp4',
    recvBufferSize: BUFFER_BYTES,
    lookup: (host, _options, done) => done(null, host, 4),
  });
  await new Promise<void>((resolve) => socket.bind(0, HOST, resolve));
  return socket;
}
