/** TCP connections that send the head of an HTTP request a byte at a time, and come back when they are cut. */
import { connect, type Socket } from 'node:net';

const BYTE_EVERY_MS = 500;

export class SlowConnections {
  /** Connections that the server has cut. Each was opened again. */
  cut = 0;
  private readonly open = new Set<Socket>();
  private ended = false;

  constructor(
    private readonly port: number,
    private readonly count: number,
  ) {
    for (let i = 0; i < count; i++) this.dribble();
  }

  /** Connections so far. */
  get opened(): number {
    return this.count + this.cut;
  }

  close(): void {
    this.ended = true;
    for (const socket of this.open) socket.destroy();
  }

  private dribble(): void {
    const socket = connect(this.port, '127.0.0.1');
    const timer = setInterval(() => socket.write('y'), BYTE_EVERY_MS);
    this.open.add(socket);
    socket
      .on('error', () => undefined)
      .on('data', () => undefined)
      .on('close', () => {
        clearInterval(timer);
        this.open.delete(socket);
        if (this.ended) return;
        this.cut++;
        this.dribble();
      });
    socket.write('GET /healthz HTTP/1.1\r\nx: ');
  }
}
