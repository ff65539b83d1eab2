// How long datagrams may be, tried over a relay that loses longer ones on one way or the other, and what doctor says.
import { createSocket } from 'node:dgram';
import t, { type Test } from 'tap';
import { checkPaths } from '../../src/cli/doctor/path-checks.js';
import { PathProbe } from '../../src/client/path-probe.js';
import { KvMachine } from '../../src/machine/kv.js';
import { DEFAULT_LIMITS } from '../../src/protocol/config.js';
import { clusterConfig, startReplicas } from '../server/fixtures.js';

const TIMEOUT_MS = 4_000;

/** A relay before a replica that loses what is longer. Returns its port. */
async function relay(t: Test, to: number, longest: { readonly there: number; readonly back: number }): Promise<number> {
  const [front, back] = [createSocket('udp4'), createSocket('udp4')];
  for (const socket of [front, back]) {
    await new Promise<void>((resolve) => socket.bind(0, '127.0.0.1', resolve));
    t.teardown(() => socket.close());
  }
  let client = 0;
  front.on('message', (bytes, { port }) => {
    client = port;
    if (bytes.length <= longest.there) back.send(bytes, to, '127.0.0.1');
  });
  back.on('message', (bytes) => {
    if (bytes.length <= longest.back) front.send(bytes, client, '127.0.0.1');
  });
  return front.address().port;
}

t.test('the longest that pass, there and back', async (t) => {
  const cluster = { ...(await clusterConfig(1)), datagramBytes: 1_432 };
  const replicas = await startReplicas(cluster, () => new KvMachine());
  t.teardown(() => Promise.all(replicas.map((replica) => replica.close())));
  const replicaPort = Number(cluster.replicas[0]!.split(':')[1]);
  const asked = async (there: number, back: number) => [
    { id: 0, at: { host: '127.0.0.1', port: await relay(t, replicaPort, { there, back }) } },
  ];
  const all = Infinity;
  for (const [there, back, found, words, fragments] of [
    [all, all, { longestThere: 1_432, isNarrowThere: false, isNarrowBack: false }, /1,432 bytes/, 'ok'],
    [
      1_410,
      all,
      { longestThere: 1_402, isNarrowThere: true, isNarrowBack: true },
      /lost on the way there; .* 1,402$/,
      'warn',
    ],
    [
      all,
      1_250,
      { longestThere: 1_432, isNarrowThere: false, isNarrowBack: true },
      /lost on the way back; .* 1,232$/,
      'ok',
    ],
    [1_432, all, { longestThere: 1_432, isNarrowThere: false, isNarrowBack: false }, /1,432 bytes/, 'warn'],
  ] as const)
    await t.test(`${there} bytes there, ${back} back`, async (t) => {
      await using probe = await PathProbe.open({ cluster }, await asked(there, back));
      const [path] = await probe.tryFull(TIMEOUT_MS);
      t.match(path, { id: 0, answers: true, ...found });
      t.ok(path!.cameBack <= Math.min(back, 1_432), `${path!.cameBack} came back`);
      const findings = await checkPaths({ cluster }, DEFAULT_LIMITS, await asked(there, back), TIMEOUT_MS, undefined);
      t.match(findings[0], { check: 'path 0', level: found.isNarrowBack ? 'fail' : 'ok', found: words });
      t.match(findings[1], { check: 'fragments', level: fragments });
    });
  await t.test('a host that is silent', async (t) => {
    await using probe = await PathProbe.open({ cluster }, await asked(0, 0));
    t.match(await probe.tryFull(300), [{ answers: false, isNarrowThere: false }]);
    t.same(await probe.tryFragments(300), [false]);
  });
  await t.test('fragments are not tried where nothing is so long', async (t) => {
    const limits = { ...DEFAULT_LIMITS, operationBytes: 1_332, resultBytes: 1_332 };
    t.equal((await checkPaths({ cluster }, limits, await asked(all, all), TIMEOUT_MS, undefined)).length, 1);
  });
});
