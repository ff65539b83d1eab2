/** The files that checks read, below a root, so that a test can simulate a host. A missing file reads as undefined. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

export class Host {
  /** @param root `/`, or a folder that stands for it */
  constructor(readonly root: string) {}

  /** A file's text, trimmed. */
  read(path: string): string | undefined {
    try {
      return readFileSync(join(this.root, path), 'utf8').trim();
    } catch {
      return undefined;
    }
  }

  readNumber(path: string): number | undefined {
    const text = this.read(path);
    const value = Number(text);
    return text === undefined || text === '' || !Number.isFinite(value) ? undefined : value;
  }

  /** Names in a folder, sorted, with numbers by value. */
  list(path: string): string[] {
    try {
      return readdirSync(join(this.root, path)).sort((a, b) => a.localeCompare(b, 'en', { numeric: true }));
    } catch {
      return [];
    }
  }

  /** Names of running processes. */
  processes(): Set<string> {
    const names = new Set<string>();
    for (const pid of this.list('proc')) {
      const name = /^\d+$/.test(pid) ? this.read(`proc/${pid}/comm`) : undefined;
      if (name !== undefined) names.add(name);
    }
    return names;
  }
}
