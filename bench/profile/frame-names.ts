/** Names for a profiler's entries: functions by file and line of the package, and V8's own entries in plain words. */
import { existsSync, readFileSync } from 'node:fs';
import { SourceMap } from 'node:module';
import { dirname, relative, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { CallFrame, FrameName } from './cpu-profile.js';

/** From dist/bench/profile to the package. */
const PACKAGE = fileURLToPath(new URL('../../../', import.meta.url));

/** Entries of V8 that are not functions. */
const SPECIAL: Readonly<Record<string, FrameName>> = {
  '(garbage collector)': { name: 'garbage collection', place: 'V8', kind: 'collector' },
  '(program)': { name: 'native code outside functions', place: 'event loop, kernel, V8', kind: 'native' },
};

/** Reads each source map once. */
export class FrameNames {
  private readonly maps = new Map<string, SourceMap | undefined>();

  nameOf = ({ functionName, url, lineNumber, columnNumber }: CallFrame): FrameName => {
    const special = SPECIAL[functionName];
    if (special !== undefined) return special;
    const name = functionName === '' ? '(anonymous)' : functionName;
    if (url === '') return { name, place: 'native', kind: 'native' };
    if (!url.startsWith('file:')) return { name, place: `${url}:${lineNumber + 1}`, kind: 'node' };
    const path = fileURLToPath(url);
    const [file, line] = this.sourceOf(path, lineNumber, columnNumber) ?? [path, lineNumber + 1];
    const inside = relative(PACKAGE, file).replaceAll('\\', '/');
    return {
      name,
      place: `${inside}:${line}`,
      kind: inside.startsWith('..') || inside.startsWith('node_modules/') ? 'node' : 'ours',
    };
  };

  /** The original file and line (from 1), if a map beside the file gives them. */
  private sourceOf(path: string, line: number, column: number): readonly [file: string, line: number] | undefined {
    if (!this.maps.has(path))
      this.maps.set(
        path,
        existsSync(`${path}.map`)
          ? new SourceMap(JSON.parse(readFileSync(`${path}.map`, 'utf8')) as ConstructorParameters<typeof SourceMap>[0])
          : undefined,
      );
    const entry = this.maps.get(path)?.findEntry(line, column);
    return entry === undefined || !('originalSource' in entry)
      ? undefined
      : [resolve(dirname(path), entry.originalSource), entry.originalLine + 1];
  }
}
