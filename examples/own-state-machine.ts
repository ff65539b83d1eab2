/**
 * Three replicas in this program, with its own state machine: it keeps the largest number that it was given.
 *
 * A machine is deterministic: the same operations in the same order give the same state and the same results on every
 * replica. It reads no clock, draws no random number, and depends on nothing but its operations.
 */
import {
  Client,
  Replica,
  silentLogger,
  type ApplyContext,
  type ClusterConfig,
  type Operation,
  type Reply,
  type StateMachine,
} from '../src/index.js';
import { runAsProgram } from './run.js';

/** The same content as `jitpaxos init --insecure` writes. */
const LOOPBACK: ClusterConfig = {
  schema: 'jitpaxos.cluster/1',
  id: '00c0ffee12345678',
  replicas: ['127.0.0.1:7410', '127.0.0.1:7411', '127.0.0.1:7412'],
};

/** Operations and results are numbers, 4 bytes big-endian; an empty operation only reads. */
export class Maximum implements StateMachine {
  private value = 0;

  apply(operation: Operation, context: ApplyContext, reply: Reply): void {
    if (operation.length === 4) this.value = Math.max(this.value, viewOf(operation).getUint32(0));
    this.query(operation, context, reply);
  }

  query(_operation: Operation, _context: ApplyContext, reply: Reply): void {
    new DataView(reply.bytes.buffer, reply.bytes.byteOffset + reply.offset, 4).setUint32(0, this.value);
    reply.length = 4;
  }

  snapshot(): Uint8Array {
    return Uint8Array.of(this.value >>> 24, this.value >>> 16, this.value >>> 8, this.value);
  }

  restore(snapshot: Uint8Array): void {
    if (snapshot.length !== 4) throw new RangeError(`a snapshot of this machine has 4 bytes, not ${snapshot.length}`);
    this.value = new DataView(snapshot.buffer, snapshot.byteOffset, 4).getUint32(0);
  }
}

function viewOf({ bytes, offset, length }: Operation): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset + offset, length);
}

function numberOf(result: Uint8Array): number {
  return new DataView(result.buffer, result.byteOffset, 4).getUint32(0);
}

export async function main(cluster: ClusterConfig = LOOPBACK): Promise<number[]> {
  // Usually each replica is a process on its own host, with a data directory: `data`.
  const replicas = await Promise.all(
    cluster.replicas.map((_, id) => Replica.start({ cluster, id, machine: new Maximum(), logger: silentLogger })),
  );
  const client = await Client.connect({ cluster });
  try {
    const results: number[] = [];
    for (const number of [3, 9, 4]) results.push(numberOf(await client.execute(Uint8Array.of(0, 0, 0, number))));
    results.push(numberOf(await client.query(new Uint8Array(0))));
    return results; // 3, 9, 9, 9
  } finally {
    await client.close();
    await Promise.all(replicas.map((replica) => replica.close()));
  }
}

await runAsProgram(import.meta.url, () => main()); // it starts its own replicas, so it takes no cluster file
