/** `jitpaxos init`: writes a cluster file and its key files. Never overwrites one: its id keeps clusters apart. */
import { randomBytes } from 'node:crypto';
import { KEYED_CHAIN } from '../host/chain.js';
import { FIRST_FEATURES } from '../protocol/log/features.js';
import { CLUSTER_SCHEMA, loadCluster, type ClusterConfig } from '../host/cluster-config.js';
import { featuresBefore, readBackup, SOURCE_FLAGS } from './backup.js';
import { defineCommand } from '../console/command.js';
import { CliError, Exit } from '../console/exit.js';
import { firstKeyFiles } from '../console/key-files.js';
import { writeTogether } from '../console/output-file.js';
import { warnWithoutKeys } from '../console/without-keys.js';

export const init = defineCommand(
  {
    name: 'init',
    summary:
      'Writes a cluster file, which every replica and client reads, and two key files: one for the replicas and one for clients.',
    positionals: [],
    flags: {
      replicas: { kind: 'text', value: 'HOST:PORT,…', help: 'addresses, an odd number of them; [::1]:7400 for IPv6' },
      out: {
        kind: 'text',
        value: 'FILE',
        default: 'cluster.json',
        help: 'the cluster file to write. Its key files are written beside it; unless it is cluster.json, they carry its name',
      },
      restore: {
        kind: 'text',
        value: 'FILE',
        help: 'the cluster begins with this backup; then run jitpaxos restore for every replica',
      },
      ...SOURCE_FLAGS,
      'backup-cluster': {
        kind: 'text',
        value: 'FILE',
        help: 'the cluster file of the cluster that was backed up: needed if the backup does not say with which features it began',
      },
      insecure: {
        kind: 'switch',
        help: 'no keys: anyone who can send a datagram to a replica can do everything. Only for development',
      },
    },
    examples: ['jitpaxos init --replicas 127.0.0.1:7400,127.0.0.1:7401,127.0.0.1:7402'],
  },
  async ({ values }, output) => {
    if (values.replicas === undefined)
      throw new CliError(
        'flag-invalid',
        '--replicas is missing; give the addresses, such as --replicas 127.0.0.1:7400,127.0.0.1:7401,127.0.0.1:7402',
      );
    const { restore } = values;
    const from = restore === undefined ? undefined : readBackup(restore, values, !values.insecure).backup;
    const config: ClusterConfig = {
      schema: CLUSTER_SCHEMA,
      id: randomBytes(8).toString('hex'),
      ...(values.insecure
        ? {}
        : { authentication: 'keys' as const, encryption: 'required' as const, chain: KEYED_CHAIN }),
      features: from === undefined ? FIRST_FEATURES : featuresBefore(from, restore!, values['backup-cluster']),
      ...(from === undefined ? {} : { restored: from.id }),
      replicas: values.replicas.split(',').map((address) => address.trim()),
    };
    warnWithoutKeys(output, loadCluster(config));
    const keyFiles = values.insecure ? [] : firstKeyFiles(values.out, config.id);
    writeTogether([...keyFiles, { path: values.out, content: `${JSON.stringify(config, null, 2)}\n` }]);
    const keys = values.insecure ? undefined : { replica: keyFiles[0]!.path, client: keyFiles[1]!.path };
    if (output.json)
      output.line(
        JSON.stringify({
          schema: 'jitpaxos.init/1',
          file: values.out,
          id: config.id,
          replicas: config.replicas,
          keys: keys ?? null,
        }),
      );
    else {
      output.line(`wrote ${values.out}: cluster ${config.id}, ${config.replicas.length} replicas`);
      if (keys !== undefined)
        output.line(`wrote ${keys.replica} for the replicas and ${keys.client} for clients: keep both secret`);
      const ids = `--id 0${config.replicas.length > 1 ? `…${config.replicas.length - 1}` : ''}`;
      if (restore !== undefined)
        output.note(
          `before any replica starts, make the data directory of each: jitpaxos restore ${restore} --cluster ${values.out} ${ids}`,
        );
      output.note(
        `${restore === undefined ? '' : 'then '}start each with: jitpaxos replica --cluster ${values.out} ${ids}`,
      );
    }
    return Exit.done;
  },
);
