/**
 * Several replicas in one process, for measurements only. Replicas that poll without sleeping need a core each; on a
 * host with fewer cores, sharing a process is the only way to measure them. A process of its own, started with its
 * setup as JSON; speaks as line-child.ts says.
 */
import { join } from 'node:path';
import { EchoMachine } from '../../machine/echo.js';
import { KvMachine } from '../../machine/kv.js';
import { Replica } from '../../server/replica.js';
import type { Durability } from '../../storage/durability.js';
import type { TransportChoice } from '../../console/transport-flags.js';

export interface SharedReplicasSetup extends TransportChoice {
  readonly cluster: string;
  readonly ids: readonly number[];
  readonly machine: 'echo' | 'kv';
  readonly durability: Durability;
  /** Parent of the replicas' data directories. */
  readonly data: string;
  readonly datagramBytes?: number | undefined;
}

async function main({
  cluster,
  ids,
  machine,
  transport,
  idle,
  durability,
  data,
  datagramBytes,
}: SharedReplicasSetup): Promise<void> {
  const replicas = await Promise.all(
    ids.map((id) =>
      Replica.start({
        cluster,
        id,
        machine: machine === 'kv' ? new KvMachine() : new EchoMachine(),
        transport,
        idle,
        datagramBytes,
        durability,
        data: join(data, `replica-${id}`),
      }),
    ),
  );
  for (const replica of replicas) replica.closed.catch(fail);
  process.stdin.once(
    'end',
    () => void Promise.all(replicas.map((replica) => replica.close())).then(() => process.exit()),
  );
  process.stdin.resume();
  process.stdout.write('ready {}\n');
}

function fail(error: unknown): never {
  process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
  process.exit(1);
}

main(JSON.parse(process.argv[2]!) as SharedReplicasSetup).catch(fail);
