/**
 * Files that a command writes when its work is done. A path that cannot be written is found before the work begins; what
 * goes wrong afterwards (a full disk) does not take the result with it, which is printed first.
 */
import { accessSync, closeSync, constants, existsSync, openSync, statSync, unlinkSync, writeFileSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { CliError } from './exit.js';

/** Throws CliError `flag-invalid` when `path`, the value of `--flag`, can not be written to. Leaves nothing behind, and what is there as it is. */
export function checkWritable(flag: string, path: string | undefined): void {
  if (path === undefined) return;
  const refuse = (why: string): CliError => new CliError('flag-invalid', `--${flag} ${path} can't be written: ${why}; give another path`);
  const folder = dirname(resolve(path));
  try {
    if (!existsSync(path)) {
      // The system is asked to do it: permissions alone tell neither a read-only mount nor what root may not either.
      closeSync(openSync(path, 'wx'));
      unlinkSync(path);
    } else if (statSync(path).isDirectory()) throw refuse('it is a directory');
    else accessSync(path, constants.W_OK);
  } catch (error) {
    if (error instanceof CliError) throw error;
    throw refuse(existsSync(folder) ? reasonOf(error) : `there is no directory ${folder}`);
  }
}

/** Runs `write`, which writes the file of `--flag`. Throws CliError `output-unwritable`. */
export function writingOutput(flag: string, path: string, write: () => void): void {
  try {
    write();
  } catch (error) {
    throw new CliError('output-unwritable', `--${flag} ${path} could not be written (${reasonOf(error)}); the result itself is printed: make room, or write elsewhere, and run again`);
  }
}

export function writeOutput(flag: string, path: string | undefined, content: () => string): void {
  if (path !== undefined) writingOutput(flag, path, () => writeFileSync(path, content()));
}

function reasonOf(error: unknown): string {
  return (error as NodeJS.ErrnoException).code ?? String(error);
}
