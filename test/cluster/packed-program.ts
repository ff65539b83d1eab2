/**
 * Replica and client of an earlier commit, as scripts/pack-program.mjs packed them: unpacked into a temporary directory,
 * where they find the installed packages of this one. They have no addon, and use what stands in for it.
 */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { brotliDecompressSync } from 'node:zlib';

const ROOT = fileURLToPath(new URL('../../../', import.meta.url));

/** The last commit before wire version 5. */
export const VERSION_4 = join(ROOT, 'test/golden/program-4.json.br');

interface Packed {
  readonly commit: string;
  /** Text of each file, by its path. */
  readonly files: Readonly<Record<string, string>>;
}

export interface Unpacked {
  readonly commit: string;
  readonly directory: string;
  remove(): void;
}

export function unpackProgram(file: string): Unpacked {
  const { commit, files } = JSON.parse(brotliDecompressSync(readFileSync(file)).toString()) as Packed;
  const directory = mkdtempSync(join(tmpdir(), 'jitpaxos-program-'));
  for (const [path, text] of Object.entries(files)) {
    mkdirSync(dirname(join(directory, path)), { recursive: true });
    writeFileSync(join(directory, path), text);
  }
  symlinkSync(join(ROOT, 'node_modules'), join(directory, 'node_modules'));
  return { commit, directory, remove: () => rmSync(directory, { recursive: true, force: true }) };
}
