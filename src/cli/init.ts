/** `jitpaxos init`: writes a cluster file and its key files. Never over an existing one: its id is what keeps clusters apart. */
import { randomBytes } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { KEYED_CHAIN } from '../server/chain.js';
import { CLUSTER_SCHEMA, loadCluster, type ClusterConfig } from '../server/cluster-config.js';
import { readBackup } from './backup.js';
import { defineCommand } from './command.js';
import { CliError, Exit } from './exit.js';
import { writeFirstKeys } from './keys.js';

export const init = defineCommand(
  {
    name: 'init',
    summary: 'Writes a cluster file, which every replica and client needs, and two key files: one for the replicas, one for clients.',
    positionals: [],
    flags: {
      replicas: { kind: 'text', value: 'HOST:PORT,…', help: 'addresses, an odd number of them; [::1]:7400 for IPv6' },
      out: { kind: 'text', value: 'FILE', default: 'cluster.json', help: 'the cluster file to write; the key files are written beside it' },
      restore: { kind: 'text', value: 'FILE', help: 'the cluster begins with this backup: give it to every replica with jitpaxos restore' },
      insecure: { kind: 'switch', help: 'no keys: whoever can send a datagram to a replica can do everything. For development' },
    },
    examples: ['jitpaxos init --replicas 127.0.0.1:7400,127.0.0.1:7401,127.0.0.1:7402'],
  },
  async ({ values }, output) => {
    if (values.replicas === undefined) throw new CliError('flag-invalid', '--replicas is missing; give the addresses, like --replicas 127.0.0.1:7400,127.0.0.1:7401,127.0.0.1:7402');
    const config: ClusterConfig = {
      schema: CLUSTER_SCHEMA,
      id: randomBytes(8).toString('hex'),
      ...(values.insecure ? {} : { authentication: 'keys' as const, chain: KEYED_CHAIN }),
      ...(values.restore === undefined ? {} : { restored: readBackup(values.restore).id }),
      replicas: values.replicas.split(',').map((address) => address.trim()),
    };
    loadCluster(config);
    try {
      writeFileSync(values.out, `${JSON.stringify(config, null, 2)}\n`, { flag: 'wx' });
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
      throw new CliError('file-exists', `${values.out} exists already; remove it, or choose another name with --out`);
    }
    const keys = values.insecure ? undefined : writeFirstKeys(values.out, config.id);
    if (output.json) output.line(JSON.stringify({ schema: 'jitpaxos.init/1', file: values.out, id: config.id, replicas: config.replicas, keys: keys ?? null }));
    else {
      output.line(`wrote ${values.out}: cluster ${config.id}, ${config.replicas.length} replicas`);
      if (keys !== undefined) output.line(`wrote ${keys.replica} for the replicas and ${keys.client} for clients: secret, for their users alone`);
      output.note(`start each with: jitpaxos replica --cluster ${values.out} --id 0${config.replicas.length > 1 ? `…${config.replicas.length - 1}` : ''}`);
    }
    return Exit.done;
  },
);
