// Endpoints that have not proven that they receive where they send from get little.
import t from 'tap';
import { AMPLIFICATION, writeProof } from '../../src/wire/address-proofs.js';
import { Challenge, Proof, validate } from '../../src/wire/messages.js';
import { Peers } from '../../src/wire/peers.js';
import { WIRE_VERSION } from '../../src/wire/versions.js';

const REPLICAS = 3;
const ENDPOINTS = 4;
const KEY = 1;

/** Numbers that a test can foresee. */
function counting(): (target: Int32Array<ArrayBuffer>) => void {
  let next = 0;
  return (target) => target.set([++next, -next]);
}

const fresh = (): Peers =>
  new Peers({
    self: 0,
    replicas: REPLICAS,
    endpoints: ENDPOINTS,
    newest: WIRE_VERSION,
    now: { monotonicUs: 0 },
    draw: counting(),
  });

function challengeFor(proofs: Peers, endpoint: number): Uint8Array {
  const bytes = new Uint8Array(Challenge.size);
  return bytes.subarray(0, proofs.writeChallenge(endpoint, bytes, 0));
}

function proofOf(challenge: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(Proof.size);
  writeProof(challenge, 0, bytes, 0);
  return bytes;
}

t.test('at most so many times the bytes that came, all answers together, until there is a proof', (t) => {
  const proofs = fresh();
  proofs.heard(5, KEY, WIRE_VERSION, 100);
  t.ok(proofs.mayCarry(5, AMPLIFICATION * 100 - 1));
  t.notOk(proofs.mayCarry(5, 2));
  proofs.heard(5, KEY, WIRE_VERSION, 50);
  t.ok(proofs.mayCarry(5, 1 + AMPLIFICATION * 50));
  t.notOk(proofs.mayCarry(5, 1));
  const challenge = challengeFor(proofs, 5);
  t.equal(validate(challenge, 0, challenge.length), Challenge.size);
  proofs.prove(5, proofOf(challenge), 0);
  t.ok(proofs.mayCarry(5, 60_000));
  t.equal(challengeFor(proofs, 5).length, 0, 'nobody is asked twice');
  t.end();
});

t.test('nothing else proves anything', (t) => {
  const proofs = fresh();
  const isProven = (endpoint: number): boolean => proofs.mayCarry(endpoint, 60_000);
  proofs.heard(5, KEY, WIRE_VERSION, 50);
  proofs.prove(5, new Uint8Array(proofOf(new Uint8Array(Challenge.size))), 0);
  t.notOk(isProven(5), 'zero, before anything was asked');
  const challenge = challengeFor(proofs, 5);
  t.same(challengeFor(proofs, 5), challenge, 'asked again, the number stays: an answer may be late');
  proofs.heard(6, KEY, WIRE_VERSION, 50);
  proofs.prove(6, proofOf(challenge), 0);
  t.notOk(isProven(6), 'the proof of another endpoint');
  const wrong = proofOf(challenge);
  wrong[Proof.at.nonce + 7]! ^= 1;
  proofs.prove(5, wrong, 0);
  t.notOk(isProven(5), 'a number that is off by a bit');
  proofs.prove(5 + ENDPOINTS, proofOf(challenge), 0);
  t.notOk(isProven(5), 'another number of the same place');
  t.end();
});

t.test('another endpoint in the place, or another key, begins anew, and an old proof is worth nothing', (t) => {
  const proofs = fresh();
  proofs.heard(5, KEY, WIRE_VERSION, 50);
  const old = proofOf(challengeFor(proofs, 5));
  proofs.prove(5, old, 0);
  for (const [endpoint, key] of [
    [5, KEY + 1],
    [5 + ENDPOINTS, KEY],
    [5, KEY],
  ] as const) {
    proofs.heard(endpoint, key, WIRE_VERSION, 50);
    challengeFor(proofs, endpoint);
    proofs.prove(endpoint, old, 0);
    t.notOk(proofs.mayCarry(endpoint, 60_000), `endpoint ${endpoint}, key ${key}`);
  }
  t.end();
});

t.test('a replica proves nothing', (t) => {
  const proofs = fresh();
  for (let id = 0; id < REPLICAS; id++) {
    t.ok(proofs.mayCarry(id, 60_000));
    t.equal(challengeFor(proofs, id).length, 0);
  }
  t.end();
});

t.test('credit is bounded', (t) => {
  const proofs = fresh();
  for (let i = 0; i < 10_000; i++) proofs.heard(5, KEY, WIRE_VERSION, 60_000);
  let bytes = 0;
  while (proofs.mayCarry(5, 1 << 20)) bytes += 1 << 20;
  t.ok(bytes > 0 && bytes <= 1 << 30);
  t.end();
});
