/** `jitpaxos init`: writes a cluster file. Never over an existing one: its id is what keeps clusters apart. */
import { randomBytes } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { CLUSTER_SCHEMA, loadCluster, type ClusterConfig } from '../server/cluster-config.js';
import { defineCommand } from './command.js';
import { CliError, Exit } from './exit.js';

export const init = defineCommand(
  {
    name: 'init',
    summary: 'Writes a cluster file: a random cluster id and the addresses of the replicas. Every replica and client needs the same file.',
    positionals: [],
    flags: {
      replicas: { kind: 'text', value: 'HOST:PORT,…', help: 'addresses, an odd number of them; [::1]:7400 for IPv6' },
      out: { kind: 'text', value: 'FILE', default: 'cluster.json', help: 'the file to write' },
    },
    examples: ['jitpaxos init --replicas 127.0.0.1:7400,127.0.0.1:7401,127.0.0.1:7402'],
  },
  async ({ values }, output) => {
    if (values.replicas === undefined) throw new CliError('flag-invalid', '--replicas is missing; give the addresses, like --replicas 127.0.0.1:7400,127.0.0.1:7401,127.0.0.1:7402');
    const config: ClusterConfig = {
      schema: CLUSTER_SCHEMA,
      id: randomBytes(8).toString('hex'),
      replicas: values.replicas.split(',').map((address) => address.trim()),
    };
    loadCluster(config);
    try {
      writeFileSync(values.out, `${JSON.stringify(config, null, 2)}\n`, { flag: 'wx' });
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
      throw new CliError('file-exists', `${values.out} exists already; remove it, or choose another name with --out`);
    }
    if (output.json) output.line(JSON.stringify({ schema: 'jitpaxos.init/1', file: values.out, id: config.id, replicas: config.replicas }));
    else {
      output.line(`wrote ${values.out}: cluster ${config.id}, ${config.replicas.length} replicas`);
      output.note(`start each with: jitpaxos replica --cluster ${values.out} --id 0${config.replicas.length > 1 ? `…${config.replicas.length - 1}` : ''}`);
    }
    return Exit.done;
  },
);
