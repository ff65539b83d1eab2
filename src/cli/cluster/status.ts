/**
 * `jitpaxos status`: asks every replica for its status, twice, so that there are rates, and prints the combined answer.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { AllMembers } from './all-members.js';
import { exitOf, seemsStalled, summarize, withChainRemark } from './summary.js';
import { summaryLines } from './table.js';
import { defineCommand } from '../../console/command.js';
import { CLUSTER_FLAG, KEY_FILE_FLAG, keysOf } from '../../console/settings.js';
import { warnWithoutKeys } from '../../console/without-keys.js';

export const status = defineCommand(
  {
    name: 'status',
    summary:
      'Shows the cluster now: view, primary, quorum, and the log and lag of each replica. Exit code 3 if the quorum cannot commit, or does not commit although requests arrive; 4 if no replica answers, so that nothing is known.',
    positionals: [],
    flags: {
      cluster: CLUSTER_FLAG,
      'key-file': { ...KEY_FILE_FLAG, alias: 'keys' },
      timeout: {
        kind: 'duration',
        default: '1s',
        min: 1e6,
        max: 3600e9,
        help: 'how long to wait for a replica that does not answer',
      },
      interval: {
        kind: 'duration',
        default: '250ms',
        max: 3600e9,
        help: 'time between the two samples that rates are computed from; 0s takes one sample and shows no rates',
      },
    },
    examples: ['jitpaxos status', 'jitpaxos status --json | jq .available'],
  },
  async ({ values }, output) => {
    const timeoutMs = Math.ceil(values.timeout / 1e6);
    const client = await AllMembers.open({ cluster: values.cluster, ...keysOf(values) });
    warnWithoutKeys(output, client.cluster);
    try {
      const before = await client.ask(timeoutMs);
      let summary = summarize(client.cluster.id, before);
      if (values.interval > 0) {
        await sleep(values.interval / 1e6);
        const answers = await client.ask(timeoutMs);
        summary = summarize(client.cluster.id, answers, before);
        if (seemsStalled(answers, before)) {
          await sleep(values.interval / 1e6);
          summary = summarize(client.cluster.id, await client.ask(timeoutMs), answers, before);
        }
      }
      summary = withChainRemark(summary, client.cluster);
      if (output.json) output.line(JSON.stringify({ schema: 'jitpaxos.cluster-status/1', ...summary }));
      else for (const line of summaryLines(summary, output.colours)) output.line(line);
      return exitOf(summary);
    } finally {
      await client.close();
    }
  },
);
