// Endpoints that have not proven that they receive where they send from get little.
import t from 'tap';
import { loadSipHash } from '../../src/native/siphash.js';
import { AMPLIFICATION, CREDIT_MAX, writeProof } from '../../src/wire/address-proofs.js';
import { Challenge, Proof, validate } from '../../src/wire/messages.js';
import { Peers } from '../../src/wire/peers.js';
import { WIRE_VERSION } from '../../src/wire/versions.js';

const REPLICAS = 3;
const ENDPOINTS = 4;
const KEY = 1;
const OTHER = 2;

/** Each replica, and each life of one, has a secret of its own. */
let lives = 0;

const fresh = (): Peers =>
  new Peers({
    self: 0,
    replicas: REPLICAS,
    endpoints: ENDPOINTS,
    newest: WIRE_VERSION,
    now: { monotonicUs: 0 },
    numbers: loadSipHash(new Uint8Array(16).fill(++lives)),
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
  proofs.prove(5, KEY, proofOf(challenge), 0);
  t.ok(proofs.mayCarry(5, 60_000));
  t.equal(challengeFor(proofs, 5).length, 0, 'nobody is asked twice');
  t.end();
});

t.test('nothing else proves anything', (t) => {
  const proofs = fresh();
  const isProven = (endpoint: number): boolean => proofs.mayCarry(endpoint, 60_000);
  proofs.heard(5, KEY, WIRE_VERSION, 50);
  proofs.prove(5, KEY, new Uint8Array(proofOf(new Uint8Array(Challenge.size))), 0);
  t.notOk(isProven(5), 'zero, before anything was asked');
  const challenge = challengeFor(proofs, 5);
  t.same(challengeFor(proofs, 5), challenge, 'asked again, the number stays: an answer may be late');
  proofs.heard(6, KEY, WIRE_VERSION, 50);
  proofs.prove(6, KEY, proofOf(challenge), 0);
  t.notOk(isProven(6), 'the proof of another endpoint');
  const wrong = proofOf(challenge);
  wrong[Proof.at.nonce + 7]! ^= 1;
  proofs.prove(5, KEY, wrong, 0);
  t.notOk(isProven(5), 'a number that is off by a bit');
  proofs.prove(5 + ENDPOINTS, KEY, proofOf(challenge), 0);
  t.notOk(isProven(5), 'another number of the same place');
  t.end();
});

t.test('another endpoint in the place, or another life, begins anew, and an old proof is worth nothing', (t) => {
  const proofs = fresh();
  proofs.heard(5, KEY, WIRE_VERSION, 50);
  const old = proofOf(challengeFor(proofs, 5));
  proofs.prove(5, KEY, old, 0);
  for (const endpoint of [5 + ENDPOINTS, 5]) {
    proofs.heard(endpoint, KEY, WIRE_VERSION, 50);
    challengeFor(proofs, endpoint);
    proofs.prove(endpoint, KEY, old, 0);
    t.notOk(proofs.mayCarry(endpoint, 60_000), `endpoint ${endpoint}`);
  }
  const later = fresh();
  later.heard(5, KEY, WIRE_VERSION, 50);
  later.prove(5, KEY, old, 0);
  t.notOk(later.mayCarry(5, 60_000), 'another life');
  t.end();
});

function challengeUnder(proofs: Peers, key: number, endpoint: number): Uint8Array {
  const bytes = new Uint8Array(Challenge.size);
  return bytes.subarray(0, proofs.writeChallengeUnder(key, endpoint, bytes, 0));
}

t.test('another key at a proven endpoint changes nothing until its own proof', (t) => {
  const proofs = fresh();
  t.ok(proofs.heard(5, KEY, WIRE_VERSION, 50));
  const proof = proofOf(challengeFor(proofs, 5));
  proofs.prove(5, KEY, proof, 0);
  for (let i = 0; i < 100; i++) t.notOk(proofs.heard(5, OTHER, WIRE_VERSION - 1, 50), 'its messages are not handled');
  t.equal(proofs.keyFor(5), KEY);
  t.equal(proofs.versionFor(5), WIRE_VERSION);
  t.ok(proofs.mayCarry(5, 60_000), 'still proven');
  const challenge = challengeUnder(proofs, OTHER, 5);
  t.not(Buffer.compare(proofOf(challenge), proof), 0, 'each key has a number of its own');
  proofs.prove(5, OTHER, proof, 0);
  proofs.prove(5, KEY, proofOf(challenge), 0);
  t.equal(proofs.keyFor(5), KEY, 'the number of one key proves nothing under the other');
  for (let key = OTHER + 1; key < OTHER + 1_000; key++) {
    proofs.heard(5, key, WIRE_VERSION, 50);
    challengeUnder(proofs, key, 5);
  }
  t.same(challengeUnder(proofs, OTHER, 5), challenge, 'and no number of other keys changes it');

  proofs.prove(5, OTHER, proofOf(challenge), 0);
  t.equal(proofs.keyFor(5), OTHER);
  t.ok(proofs.heard(5, OTHER, WIRE_VERSION, 50));
  t.ok(proofs.mayCarry(5, 60_000));
  t.notOk(proofs.heard(5, KEY, WIRE_VERSION, 50));
  proofs.prove(5, KEY, proof, 0);
  t.equal(proofs.keyFor(5), OTHER, 'a recorded proof of the former key does not bring it back');
  proofs.prove(5, KEY, proofOf(challengeUnder(proofs, KEY, 5)), 0);
  t.equal(proofs.keyFor(5), KEY, 'a new one does');
  t.end();
});

t.test('whoever speaks first from an address without a proof keeps nobody from proving it', (t) => {
  const proofs = fresh();
  proofs.heard(5, OTHER, WIRE_VERSION, 50); // forged, before the client began
  t.notOk(proofs.heard(5, KEY, WIRE_VERSION, 50));
  const challenge = challengeUnder(proofs, KEY, 5);
  for (let i = 0; i < 100; i++) proofs.heard(5, OTHER, WIRE_VERSION, 50);
  proofs.prove(5, KEY, proofOf(challenge), 0);
  t.equal(proofs.keyFor(5), KEY);
  t.ok(proofs.mayCarry(5, 60_000));
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

t.test('credit is bounded by what one full datagram brings', (t) => {
  const proofs = fresh();
  for (let i = 0; i < 10_000; i++) proofs.heard(5, KEY, WIRE_VERSION, 60_000);
  t.notOk(proofs.mayCarry(5, CREDIT_MAX + 1));
  t.equal(CREDIT_MAX, 4_296);
  let bytes = 0;
  while (proofs.mayCarry(5, 1)) bytes++;
  t.equal(bytes, CREDIT_MAX);
  t.end();
});
