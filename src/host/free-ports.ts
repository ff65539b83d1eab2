/** Ports for clusters on loopback: for tests, benches and the demo. */
import { createSocket } from 'node:dgram';

/** UDP ports of 127.0.0.1 that are free now; held together, so that they differ. */
export async function freePorts(count: number): Promise<number[]> {
  const sockets = await Promise.all(
    Array.from({ length: count }, () => {
      const socket = createSocket('udp4');
      return new Promise<typeof socket>((resolve, reject) =>
        socket.once('error', reject).bind(0, '127.0.0.1', () => resolve(socket)),
      );
    }),
  );
  const ports = sockets.map((socket) => socket.address().port);
  await Promise.all(sockets.map((socket) => new Promise<void>((resolve) => socket.close(() => resolve()))));
  return ports;
}
