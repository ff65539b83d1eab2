/** The bare dgram baseline: its processes (dgram-echo-program.ts), as many as in our contestant. */
import { measureClients, type Contestant, type Measured, type Timing } from './contestant.js';
import type { DgramEchoSetup } from './dgram-echo-program.js';
import { Children, LineChild } from './line-child.js';
import { quorumOf, sizesOf, type Point } from './shape.js';

export class DgramEcho implements Contestant {
  readonly name = 'dgram-echo';

  async run(point: Point, timing: Timing): Promise<Measured> {
    await using children = new Children();
    const sizes = sizesOf(point);
    const start = (setup: DgramEchoSetup): LineChild =>
      children.add(LineChild.startModule('./dgram-echo-program.js', setup, `dgram echo ${setup.role}`));
    const servers = Array.from({ length: point.replicas }, (_, index) => start({ role: 'server', index, sizes }));
    const ports = (await Promise.all(servers.map((server) => server.ready<{ ports: number[] }>()))).flatMap(
      (ready) => ready.ports,
    );
    const clients = Array.from({ length: point.clients }, () =>
      start({ role: 'client', ports: ports.slice(0, quorumOf(point.replicas)), open: point.open, sizes, ...timing }),
    );
    return await measureClients(
      clients,
      servers.map(({ pid }) => pid),
      quorumOf(point.replicas),
      timing,
    );
  }
}
