/**
 * What it costs to seal and to open one datagram through the envelope as it ships: encrypted, with the HMAC of the
 * previous wire version, and with the checksum of a cluster without keys, in turns.
 *
 * A client seals and a replica opens. Each pass seals a ring of datagrams and then opens them, so a datagram never
 * equals the one before it: the HMAC of the same bytes would be found without being computed.
 */
import { randomFillSync } from 'node:crypto';
import { CliError } from '../src/console/exit.js';
import { Keyring } from '../src/host/keyring.js';
import { KEYS_SCHEMA, type KeyEntry } from '../src/host/key-file.js';
import { median } from '../src/measure/compare/rounds.js';
import { native } from '../src/native/addon.js';
import { loadHash } from '../src/native/hash64.js';
import { CLIENT_SENDER, DROP_REASON_NAMES, Envelope, NO_KEY } from '../src/wire/envelope.js';
import { PREVIOUS_WIRE_VERSION, WIRE_VERSION } from '../src/wire/versions.js';
import { judged, type RowResult } from './goals/row.js';

/** Lengths of the datagrams, envelope included. */
export const ENVELOPE_LENGTHS = [64, 128, 512, 1400, 8900] as const;
const JUDGED_LENGTH = 1400;
const GOAL_NS = 500;
const RING = 64;
/** Passes over the ring in a round. */
const PASSES = 8;
const WARMUP_PASSES = 400;
const WARMUP_LENGTH = 128;
const REPLICAS = 3;
const CLUSTER_HI = 0x01234567;
const CLUSTER_LO = 0x76543210;
const CLUSTER = '0123456776543210';

/** Median ns of one datagram. */
export interface EnvelopeCost {
  readonly how: string;
  readonly bytes: number;
  readonly sealNs: number;
  readonly openNs: number;
}

/** A client and a replica that understand each other. */
class Pair {
  private readonly sealing: Envelope;
  private readonly opening: Envelope;
  private readonly slot: number;

  constructor(
    readonly how: string,
    private readonly version: number,
    keys: readonly [client: Keyring, replica: Keyring] | undefined,
  ) {
    const hash = loadHash();
    const end = (sender: number, ring: Keyring | undefined): Envelope =>
      new Envelope(hash, CLUSTER_HI, CLUSTER_LO, sender, REPLICAS, ring);
    this.sealing = end(CLIENT_SENDER, keys?.[0]);
    this.opening = end(0, keys?.[1]);
    this.slot = keys === undefined ? NO_KEY : keys[0].own;
  }

  seal(ring: Uint8Array, bytes: number): void {
    const { sealing, slot, version } = this;
    for (let i = 0; i < RING; i++) sealing.seal(ring, i * bytes, bytes, slot, version);
  }

  /** Throws CliError `worker-failed` if a datagram does not open. */
  open(ring: Uint8Array, bytes: number): void {
    const { opening } = this;
    for (let i = 0; i < RING; i++) {
      const sender = opening.open(ring, i * bytes, bytes);
      if (sender !== CLIENT_SENDER)
        throw new CliError(
          'worker-failed',
          `${this.how}: a sealed datagram of ${bytes} bytes does not open (${DROP_REASON_NAMES[-sender]}); run npm test`,
        );
    }
  }
}

const KEYS: readonly KeyEntry[] = [
  { id: 1, role: 'replica', secret: '11'.repeat(32) },
  { id: 2, role: 'client', secret: '22'.repeat(32) },
];

/** Memory of the addon, if there is one, as the native transport has it. */
function memoryOf(length: number): Uint8Array {
  return native.available ? native.addon.hashArena(length).bytes : new Uint8Array(length);
}

/** Medians over the rounds, in which the three ways take turns. Takes about 30 ms a round. */
export function envelopeCosts(rounds: number): EnvelopeCost[] {
  const file = { schema: KEYS_SCHEMA, cluster: CLUSTER } as const;
  const rings = [
    new Keyring({ ...file, use: 2, keys: KEYS.slice(1) }, false),
    new Keyring({ ...file, use: 1, keys: KEYS }, true),
  ] as const;
  const pairs = [
    new Pair('encrypted', WIRE_VERSION, rings),
    new Pair(`HMAC of version ${PREVIOUS_WIRE_VERSION}`, PREVIOUS_WIRE_VERSION, rings),
    new Pair('checksum, no keys', WIRE_VERSION, undefined),
  ];
  const ring = memoryOf(RING * Math.max(...ENVELOPE_LENGTHS));
  randomFillSync(ring);
  if (native.available) for (const each of rings) each.useMemory({ received: ring, transmit: ring });
  for (let pass = 0; pass < WARMUP_PASSES; pass++) {
    for (const pair of pairs) {
      pair.seal(ring, WARMUP_LENGTH);
      pair.open(ring, WARMUP_LENGTH);
    }
  }
  const costs = pairs.flatMap((pair) =>
    ENVELOPE_LENGTHS.map((bytes) => ({ pair, bytes, sealNs: [] as number[], openNs: [] as number[] })),
  );
  for (let round = 0; round < rounds; round++) {
    for (let turn = 0; turn < costs.length; turn++) {
      const { pair, bytes, sealNs, openNs } = costs[(round + turn) % costs.length]!;
      let sealed = 0n;
      let opened = 0n;
      for (let pass = 0; pass < PASSES; pass++) {
        const begun = process.hrtime.bigint();
        pair.seal(ring, bytes);
        const middle = process.hrtime.bigint();
        pair.open(ring, bytes);
        sealed += middle - begun;
        opened += process.hrtime.bigint() - middle;
      }
      sealNs.push(Number(sealed) / (PASSES * RING));
      openNs.push(Number(opened) / (PASSES * RING));
    }
  }
  for (const each of rings) each.close();
  return costs.map(({ pair, bytes, sealNs, openNs }) => ({
    how: pair.how,
    bytes,
    sealNs: Math.round(median(sealNs)),
    openNs: Math.round(median(openNs)),
  }));
}

/** The goal: an encrypted datagram of 1,400 bytes. */
export function envelopeRow(costs: readonly EnvelopeCost[]): RowResult {
  const { sealNs, openNs } = costs.find(({ bytes }) => bytes === JUDGED_LENGTH)!; // encrypted: the first way
  return judged({
    name: `envelope-${JUDGED_LENGTH}`,
    what: 'ns to seal, and to open, an encrypted datagram of 1,400 bytes',
    goal: `≤ ${GOAL_NS}`,
    measured: `${sealNs}, ${openNs}`,
    figures: [sealNs, openNs].map((value) => ({ value, atMost: GOAL_NS })),
    values: { costs },
  });
}

/** All lengths as a Markdown table: ns to seal / to open. */
export function envelopeTable(costs: readonly EnvelopeCost[]): string {
  const ways = [...new Set(costs.map(({ how }) => how))];
  return [
    `| ns to seal / open a datagram of | ${ENVELOPE_LENGTHS.map((bytes) => `${bytes.toLocaleString('en')} B`).join(' | ')} |`,
    `| --- |${' --- |'.repeat(ENVELOPE_LENGTHS.length)}`,
    ...ways.map((way) => {
      const cells = costs.filter(({ how }) => how === way).map(({ sealNs, openNs }) => `${sealNs} / ${openNs}`);
      return `| ${way} | ${cells.join(' | ')} |`;
    }),
  ].join('\n');
}
