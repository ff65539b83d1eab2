/** `jitpaxos bench agent`: waits on a host for a coordinator (`bench load --agents`), and loads the cluster for it. */
import { cpus } from 'node:os';
import { defineCommand } from '../../console/command.js';
import { CliError, Exit } from '../../console/exit.js';
import { CLUSTER_FLAG, KEY_FILE_FLAG } from '../../console/settings.js';
import { TRANSPORT_FLAGS, transportChoice } from '../../console/transport-flags.js';
import { warnWithoutKeys } from '../../console/without-keys.js';
import { loadCluster } from '../../host/cluster-config.js';
import { CLIENTS_MAX } from '../../measure/load/load-bounds.js';
import { AgentService } from './agent-service.js';

/** Where agents listen, unless told otherwise. */
const AGENT_PORT = 7500;

export const benchAgent = defineCommand(
  {
    name: 'bench agent',
    summary:
      'Waits for a coordinator (bench load --agents), and loads the cluster for it. Only holders of a key of its key file are heard, one at a time, and what they may order is a load within bounds.',
    positionals: [],
    flags: {
      listen: {
        kind: 'text',
        value: 'HOST:PORT',
        default: `127.0.0.1:${AGENT_PORT}`,
        help: 'where to wait for coordinators: TCP',
      },
      cluster: CLUSTER_FLAG,
      'key-file': KEY_FILE_FLAG,
      'without-keys': {
        kind: 'switch',
        help: 'take orders in a cluster without keys, on a loopback address only: any user of this host can then give them',
      },
      'clients-max': {
        kind: 'count',
        min: 1,
        max: CLIENTS_MAX,
        standard: 'one for each processor',
        help: 'most client processes that a coordinator may ask for',
      },
      once: {
        kind: 'switch',
        help: 'end after one load, such as in a batch job; default: wait for the next coordinator',
      },
      ...TRANSPORT_FLAGS,
    },
    examples: [
      'jitpaxos bench agent --listen 10.0.0.5:7500 --cluster cluster.json',
      'jitpaxos bench agent --listen [fd00::5]:7500 --key-file bench.keys --clients-max 4',
    ],
    service: true,
  },
  async ({ values }, output) => {
    const match = /^(?:\[([^\]]+)\]|([^:[\]\s]+)):(\d{1,5})$/.exec(values.listen);
    const address = { host: match?.[1] ?? match?.[2] ?? '', port: Number(match?.[3]) };
    if (match === null || address.port > 65_535)
      throw new CliError(
        'flag-invalid',
        `--listen "${values.listen}" is not HOST:PORT; write an address of this host, such as 10.0.0.5:${AGENT_PORT}`,
      );
    const note = (text: string): void => {
      if (output.json) output.line(JSON.stringify({ event: 'agent', text }));
      else output.note(text);
    };
    const service = await AgentService.open({
      ...address,
      ...transportChoice(values),
      clusterFile: values.cluster,
      keyFile: values['key-file'],
      withoutKeys: values['without-keys'],
      clientsMax: values['clients-max'] ?? Math.min(CLIENTS_MAX, cpus().length),
      note,
    });
    warnWithoutKeys(output, loadCluster(values.cluster));
    // Port 0 means any free one.
    const listen = values.listen.replace(/\d+$/, String(service.listener.port));
    output.line(
      output.json ? JSON.stringify({ event: 'listening', listen }) : `agent: waits for a coordinator at ${listen}`,
    );
    await new Promise<void>((resolve) => {
      if (values.once) void service.loaded.then(resolve);
      for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => resolve());
    });
    await service.close();
    return Exit.done;
  },
);
