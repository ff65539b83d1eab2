/**
 * The segment being written, and the next one, which is prepared in advance.
 *
 * A segment gets its name when it is complete: filled with zeros, with a header, synced. So a file with the name of a
 * segment is one, and a full disk is noticed here rather than in the middle of a frame.
 */
import type { Hash64 } from '../native/hash64.js';
import type { Files, OpenFile } from './files.js';
import type { Owner } from './hard-state.js';
import {
  encodeSegmentHeader,
  SEGMENT_HEADER_BYTES,
  segmentName,
  toSector,
  UNFINISHED,
  type LogMode,
} from './log-format.js';

const FILL_BYTES = 1 << 20;

export interface SegmentOptions {
  readonly mode: LogMode;
  /** Size of a segment; a frame that needs more gets a larger one. */
  readonly segmentBytes: number;
  readonly bootId: string;
  readonly owner: Owner;
  readonly hash: Hash64;
  /** Fingerprint of the log's chain secret. */
  readonly chain: number;
}

export interface Segment {
  readonly name: string;
  readonly ordinal: number;
  /** In mode `fsync` it is written through. */
  readonly file: OpenFile;
  readonly bytes: number;
  /** Where the next frame begins. */
  end: number;
  /** Highest index of any entry in it. */
  lastIndex: number;
}

/** The segments of one generation, for writing. */
export class Segments {
  /** All segments that are kept, oldest first; the last one is written to. */
  readonly kept: Segment[] = [];
  private next: Promise<Segment> | undefined;
  private readonly zeros = new Uint8Array(FILL_BYTES);

  constructor(
    private readonly files: Files,
    private readonly options: SegmentOptions,
    readonly generation: number,
    readonly saltHi: number,
    readonly saltLo: number,
  ) {}

  get current(): Segment | undefined {
    return this.kept.at(-1);
  }

  /** The current segment, if it has room for a frame of `frameBytes`. */
  present(frameBytes: number): Segment | undefined {
    const { current } = this;
    return current !== undefined && current.end + frameBytes <= current.bytes ? current : undefined;
  }

  /** A segment with room for a frame of `frameBytes`: the current one, or the next. */
  async withRoom(frameBytes: number): Promise<Segment> {
    const { current } = this;
    if (this.present(frameBytes) !== undefined) return current!;
    if (current !== undefined) {
      // In mode os this makes earlier frames durable, so that a clean stop needs to sync only one file.
      if (this.options.mode === 'os') await current.file.sync();
      await current.file.close();
    }
    const prepared = this.next === undefined ? undefined : await this.next;
    this.next = undefined;
    let segment = prepared;
    if (prepared !== undefined && prepared.end + frameBytes > prepared.bytes) {
      await prepared.file.close();
      await this.files.remove(prepared.name);
      segment = undefined;
    }
    segment ??= await this.create((current?.ordinal ?? -1) + 1, frameBytes);
    this.kept.push(segment);
    return segment;
  }

  /** Prepares the next segment, unless it is ready. */
  prepare(): void {
    if (this.next !== undefined) return;
    this.next = this.create(this.current!.ordinal + 1, 0);
    this.next.catch(() => undefined); // the caller that needs the segment gets the error
  }

  /**
   * Removes the oldest segments that hold no entry after `index` and are older than segment `before`, whose frame says
   * so.
   */
  async removeUpTo(index: number, before: number): Promise<void> {
    while (this.kept[0]!.ordinal < before && this.kept[0]!.lastIndex <= index) {
      await this.files.remove(this.kept[0]!.name);
      this.kept.shift();
    }
  }

  /** Closes the files. Never throws: after a disk error there is nothing more to learn from them. */
  async close(): Promise<void> {
    const open = [this.current, this.next === undefined ? undefined : await this.next.catch(() => undefined)];
    this.next = undefined;
    for (const segment of open) await segment?.file.close().catch(() => undefined);
  }

  /** `frameBytes`: size of the frame that will be written first; that space need not be filled with zeros. */
  private async create(ordinal: number, frameBytes: number): Promise<Segment> {
    const { options, files, generation, saltHi, saltLo } = this;
    const name = segmentName(generation, ordinal);
    const bytes = Math.max(options.segmentBytes, SEGMENT_HEADER_BYTES + toSector(frameBytes));
    let file = await files.create(name + UNFINISHED);
    try {
      const header = encodeSegmentHeader(
        { generation, ordinal, mode: options.mode, chain: options.chain, bootId: options.bootId, saltHi, saltLo },
        options.owner,
        options.hash,
      );
      await file.write(header, header.length, 0);
      for (let at = SEGMENT_HEADER_BYTES + frameBytes; at < bytes; ) {
        const length = Math.min(FILL_BYTES, bytes - at);
        await file.write(this.zeros, length, at);
        at += length;
      }
      await file.sync();
      await files.rename(name + UNFINISHED, name);
      await files.sync();
      if (options.mode === 'fsync') {
        const filled = file;
        file = await files.openThrough(name);
        await filled.close();
      }
    } catch (error) {
      await file.close().catch(() => undefined);
      throw error;
    }
    return { name, ordinal, file, bytes, end: SEGMENT_HEADER_BYTES, lastIndex: 0 };
  }
}
