/**
 * One replica of a LocalCluster in a process of its own, forked by replica-process.ts: `replica-program.js ORDER`, where
 * ORDER is a ReplicaOrder as JSON. It says `ready`, or why it ends, and stops when it is told to or when its parent is
 * gone.
 */
import { JitPaxosError, type ErrorCode } from '../errors.js';
import { stderrLogger } from '../host/logger.js';
import type { StateMachine } from '../machine/state-machine.js';
import { Replica } from '../server/replica.js';
import type { ReplicaOrder, ReplicaWord } from './replica-process.js';

const { module, name, ...options } = JSON.parse(process.argv[2] ?? '') as ReplicaOrder;

function say(word: ReplicaWord): Promise<void> {
  return new Promise((resolve) => {
    if (process.send === undefined || !process.connected) resolve();
    else process.send(word, undefined, undefined, () => resolve());
  });
}

async function fail(error: unknown): Promise<never> {
  const known = error instanceof JitPaxosError;
  const code = known ? (error.code as ErrorCode) : 'machine-module-failed';
  const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
  await say({ failed: { code, message: known ? error.message : `the replica's process ended: ${text}` } });
  process.exit(1);
}

async function machine(): Promise<StateMachine> {
  const exported = ((await import(module)) as Record<string, unknown>)[name];
  if (typeof exported !== 'function')
    throw new JitPaxosError(
      'machine-module-failed',
      `${module} exports no function or class "${name}"; export one that makes the machine, and give its name`,
    );
  // A class is made with `new`; any other function is called.
  const isClass = /^class\b/.test(Function.prototype.toString.call(exported));
  return isClass
    ? new (exported as new () => StateMachine)()
    : await (exported as () => StateMachine | Promise<StateMachine>)();
}

try {
  const replica = await Replica.start({ ...options, machine: await machine(), logger: stderrLogger });
  const stop = (): void => void replica.close().then(() => process.exit(0), fail);
  process.on('SIGTERM', stop);
  process.on('disconnect', stop);
  process.on('SIGINT', () => undefined); // Ctrl-C is for the parent, which stops its replicas
  replica.closed.catch(fail);
  await say({ ready: true });
} catch (error) {
  await fail(error);
}
