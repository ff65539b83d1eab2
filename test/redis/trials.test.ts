/** Small runs of what `npm run try:redis` does at length (test/redis/trials/). */
import t from 'tap';
import { randomInt } from 'node:crypto';
import { InputFuzzer } from './trials/inputs.js';
import { orderUnderLoss } from './trials/order.js';
import { longPipeline } from './trials/pipeline.js';
import { unread } from './trials/unread.js';

const seed = randomInt(1, 0x7fffffff);

t.test(`the order of a connection's commands while datagrams are lost; seed ${seed}`, async (t) => {
  const result = await orderUnderLoss({ seed, loss: 0.05, connections: 20, rounds: 5 });
  t.same(result.blind, [], `${result.reads} reads; again: npm run try:redis -- --trials order --seed ${seed} --loss 5`);
  t.ok(result.reads > 0 && result.datagramsLost > 0);
});

t.test('a long pipeline', async (t) => {
  const result = await longPipeline(seed, 20_000);
  t.equal(result.wrong, undefined, `in ${result.seconds} s, with ${result.memory.most} MiB`);
});

t.test('clients that never read', async (t) => {
  const result = await unread(seed, 10, 1);
  t.equal(result.wrong, undefined, `${result.served} commands served, with ${result.memory.most} MiB`);
  t.ok(result.served > 0);
});

t.test(`mutated commands; seed ${seed}`, async (t) => {
  const fuzzer = new InputFuzzer(seed);
  while (fuzzer.inputs < 20_000) await fuzzer.round();
  t.same([...fuzzer.found], [], `again: npm run try:redis -- --trials inputs --seed ${seed} --inputs 20000`);
  t.ok(fuzzer.replies > fuzzer.errors && fuzzer.errors > 0, `${fuzzer.replies} replies, ${fuzzer.errors} errors`);
  t.ok(fuzzer.counters.writes > 0 && fuzzer.counters.protocolFaults > 0);
});
