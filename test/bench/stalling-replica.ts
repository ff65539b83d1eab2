/**
 * A cluster of one replica that does nothing for 100 ms of every second: a known truth against which `bench load` is
 * checked. Prints `ready` when it serves, and stops with its parent. Arguments: cluster file, directory for its data.
 */
import { EchoMachine } from '../../src/machine/echo.js';
import { Replica } from '../../src/server/replica.js';

const STALL_MS = 100;
const PERIOD_MS = 1_000;

const [cluster, data] = process.argv.slice(2) as [string, string];
const replica = await Replica.start({ cluster, id: 0, machine: new EchoMachine(), data });
const nothing = new Int32Array(new SharedArrayBuffer(4));

function stall(): void {
  Atomics.wait(nothing, 0, 0, STALL_MS);
  setTimeout(stall, PERIOD_MS - (performance.now() % PERIOD_MS));
}

setTimeout(stall, PERIOD_MS - (performance.now() % PERIOD_MS));
process.once('disconnect', () => process.exit());
process.once('SIGTERM', () => void replica.close().then(() => process.exit()));
process.send?.('ready');
