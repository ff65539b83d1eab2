/**
 * A program that decides in the kernel whether a datagram is received at all: classic BPF, for SO_ATTACH_FILTER
 * (socket(7), bpf(2)). It drops what `Envelope.open` would refuse by its first look: too short, wrong markers, another
 * protocol, a version that is not read, and, where the cluster id is in clear, another cluster.
 *
 * The rule: it drops nothing that `open` would take. It knows no keys, so garbage with a right envelope passes. The
 * kernel shows it a datagram with its UDP header in front. Of a run of datagrams from one address that the kernel has
 * put together (udp(7), UDP_GRO) it sees the first only, and keeps or drops them all.
 */
import { AT_CLUSTER, AT_MAGIC, ENCRYPTED_VERSION, ENVELOPE_BYTES, FIXED, MAGIC } from './envelope.js';

export interface KernelFilterOptions {
  readonly clusterHi: number;
  readonly clusterLo: number;
  /** The versions that this process reads. */
  readonly oldest: number;
  readonly newest: number;
  /** Whether the cluster has keys: the cluster id of encrypted datagrams is not in clear. */
  readonly keyed: boolean;
}

const UDP_HEADER_BYTES = 8;
/** Bytes of an instruction: struct sock_filter. */
const INSTRUCTION_BYTES = 8;

/** Instructions of classic BPF (linux/filter.h) on the accumulator. */
const Op = {
  loadWord: 0x20,
  loadByte: 0x30,
  loadLength: 0x80,
  and: 0x54,
  jumpIfEqual: 0x15,
  jumpIfAtLeast: 0x35,
  jumpIfAbove: 0x25,
  end: 0x06,
} as const;

const WHOLE = 0xffffffff;
const NOTHING = 0;

type Target = 'next' | 'drop' | 'take';
type Instruction = readonly [op: number, operand: number, then?: Target, otherwise?: Target];

/** The program in the byte order of this host. */
export function kernelFilter(options: KernelFilterOptions): Uint8Array {
  const { clusterHi, clusterLo, oldest, newest, keyed } = options;
  const body: Instruction[] = [
    [Op.loadLength, 0],
    [Op.jumpIfAtLeast, UDP_HEADER_BYTES + ENVELOPE_BYTES, 'next', 'drop'],
    [Op.loadWord, UDP_HEADER_BYTES + AT_MAGIC],
    [Op.and, 0xffffff00],
    [Op.jumpIfEqual, MAGIC >>> 0, 'next', 'drop'],
  ];
  for (const [at, marker] of FIXED)
    body.push([Op.loadByte, UDP_HEADER_BYTES + at], [Op.jumpIfEqual, marker, 'next', 'drop']);
  body.push(
    [Op.loadByte, UDP_HEADER_BYTES + AT_MAGIC + 3],
    [Op.and, 0x0f],
    [Op.jumpIfAtLeast, oldest, 'next', 'drop'],
    [Op.jumpIfAbove, newest, 'drop', 'next'],
  );
  if (keyed) body.push([Op.jumpIfAtLeast, ENCRYPTED_VERSION, 'take', 'next']);
  body.push(
    [Op.loadWord, UDP_HEADER_BYTES + AT_CLUSTER],
    [Op.jumpIfEqual, clusterHi >>> 0, 'next', 'drop'],
    [Op.loadWord, UDP_HEADER_BYTES + AT_CLUSTER + 4],
    [Op.jumpIfEqual, clusterLo >>> 0, 'take', 'drop'],
    [Op.end, WHOLE],
    [Op.end, NOTHING],
  );
  const drop = body.length - 1;
  const ends: Readonly<Record<Target, number>> = { next: -1, take: drop - 1, drop };
  const program = new Uint8Array(body.length * INSTRUCTION_BYTES);
  const halves = new Uint16Array(program.buffer);
  const words = new Uint32Array(program.buffer);
  body.forEach(([op, operand, then = 'next', otherwise = 'next'], at) => {
    const jump = (target: Target): number => (target === 'next' ? 0 : ends[target] - at - 1);
    halves[4 * at] = op;
    program[INSTRUCTION_BYTES * at + 2] = jump(then);
    program[INSTRUCTION_BYTES * at + 3] = jump(otherwise);
    words[2 * at + 1] = operand;
  });
  return program;
}
