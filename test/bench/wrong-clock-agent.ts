// An agent whose clock is ahead by so many ms, and states a bound of so many ns ("none": none): argv.
import { AgentService } from '../../src/cli/bench/agent-service.js';
import { wallClockMs } from '../../src/measure/load/wall-seconds.js';

const [clusterFile, aheadMs, errorNs] = process.argv.slice(2);
const service = await AgentService.open({
  host: '127.0.0.1',
  port: 0,
  transport: 'auto',
  clusterFile: clusterFile!,
  keyFile: undefined,
  withoutKeys: false,
  clientsMax: 2,
  note: (text) => void process.stderr.write(`${text}\n`),
  clock: {
    wallMs: () => wallClockMs() + Number(aheadMs),
    stated: {
      status: errorNs === 'none' ? 'unknown' : 'synchronized',
      errorNs: errorNs === 'none' ? null : Number(errorNs),
      found: 'as told',
    },
  },
});
process.stdout.write(`${JSON.stringify({ event: 'listening', listen: `127.0.0.1:${service.listener.port}` })}\n`);
process.once('SIGTERM', () => void service.close());
