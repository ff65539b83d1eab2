/**
 * What a run can record for people and tools: the last few thousand messages and events as aligned lines (`--trace`),
 * and every state transition of every replica as JSON lines (`--trace-file`). docs/internals/simulation.md describes
 * both; the second is a contract with external tools.
 */
import { layoutOf, REJECT_REASON_NAMES, Reject, REPLICA_STATUS_NAMES, typeOf } from '../wire/messages.js';
import { readI32, readIndex, readU16, toHex } from '../wire/u64.js';
import type { ReplicaStateView } from './cores.js';

/** Lines kept for `--trace`. */
const RING_LINES = 4000;
/** u64 fields that are indexes; the others are shown in hexadecimal. */
const INDEX_FIELDS = new Set(['index', 'lastIndex', 'committedIndex', 'baseIndex', 'matchedIndex', 'neededIndex']);

interface TraceRecord {
  readonly timeUs: number;
  readonly from: number;
  readonly to: number;
  /** `->` sent, `=>` arrived, `**` event. */
  readonly mark: string;
  readonly message: Uint8Array | undefined;
  readonly text: string;
}

/** A ring of the latest events. Recording copies messages; formatting waits until it is asked for. */
export class TraceRing {
  private readonly ring: TraceRecord[] = [];
  private next = 0;

  constructor(private readonly replicas: number) {}

  message(
    timeUs: number,
    mark: '->' | '=>',
    from: number,
    to: number,
    bytes: Uint8Array,
    offset: number,
    length: number,
  ): void {
    this.push({ timeUs, from, to, mark, message: bytes.slice(offset, offset + length), text: '' });
  }

  note(timeUs: number, endpoint: number, text: string): void {
    this.push({ timeUs, from: endpoint, to: -1, mark: '**', message: undefined, text });
  }

  /** Oldest first. */
  lines(): string[] {
    const ordered = [...this.ring.slice(this.next), ...this.ring.slice(0, this.next)];
    return ordered.map((record) => {
      const names = `${this.name(record.from).padStart(4)} ${record.mark} ${(record.to < 0 ? '' : this.name(record.to)).padEnd(4)}`;
      return `${String(record.timeUs).padStart(10)}  ${names}  ${record.message === undefined ? record.text : formatMessage(record.message)}`;
    });
  }

  private push(record: TraceRecord): void {
    if (this.ring.length < RING_LINES) {
      this.ring.push(record);
      return;
    }
    this.ring[this.next] = record;
    this.next = (this.next + 1) % RING_LINES;
  }

  private name(endpoint: number): string {
    if (endpoint < 0) return '';
    return endpoint < this.replicas ? `r${endpoint}` : `c${endpoint - this.replicas}`;
  }
}

/** A message in one line: its name, then its fields in the order of the wire. */
export function formatMessage(bytes: Uint8Array): string {
  const layout = layoutOf(typeOf(bytes, 0));
  if (layout === undefined) return `type ${typeOf(bytes, 0)}`;
  const fields = Object.entries(layout.fields).map(([field, kind]) => {
    const at = layout.at[field]!;
    switch (kind) {
      case 'u8':
        return `${field} ${layout.type === Reject.type && field === 'reason' ? (REJECT_REASON_NAMES[bytes[at]!] ?? bytes[at]!) : bytes[at]!}`;
      case 'u16':
        return `${field} ${readU16(bytes, at)}`;
      case 'u32':
        return `${field} ${readI32(bytes, at) >>> 0}`;
      case 'i32':
        return `${field} ${readI32(bytes, at)}`;
      case 'u64':
        return `${field} ${INDEX_FIELDS.has(field) ? readIndex(bytes, at) : toHex(readI32(bytes, at), readI32(bytes, at + 4))}`;
      case 'bin16':
        return `${field} ${readU16(bytes, at)} bytes`;
    }
  });
  return `${layout.name.padEnd(13)} ${fields.join('  ')}`;
}

/** Writes a line whenever a replica's state differs from the previous one. */
export class TransitionLog {
  private readonly last: string[];

  /** @param write gets each line, without the line break */
  constructor(
    replicas: number,
    private readonly write: (line: string) => void,
  ) {
    this.last = new Array<string>(replicas).fill('');
  }

  state(timeUs: number, replica: number, event: string, state: ReplicaStateView): void {
    const { log } = state;
    const chain = toHex(log.chainHi(log.lastIndex), log.chainLo(log.lastIndex));
    const rest = `"view":${state.view},"logView":${state.logView},"status":"${REPLICA_STATUS_NAMES[state.status]}","lastIndex":${log.lastIndex},"chain":"${chain}","committed":${state.committed},"executed":${state.executed}`;
    this.line(timeUs, replica, event, rest);
  }

  /** The replica's process is gone. `view` and `logView` are null, because no process holds them. */
  down(timeUs: number, replica: number, event: string): void {
    this.line(
      timeUs,
      replica,
      event,
      '"view":null,"logView":null,"status":"down","lastIndex":null,"chain":null,"committed":null,"executed":null',
    );
  }

  private line(timeUs: number, replica: number, event: string, rest: string): void {
    if (this.last[replica] === rest) return;
    this.last[replica] = rest;
    this.write(`{"tick":${timeUs},"replica":${replica},"event":${JSON.stringify(event)},${rest}}`);
  }
}
