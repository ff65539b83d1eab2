/** Files that are there as a whole, or not at all. */
import type { Files } from './files.js';

const UNFINISHED = '.new';

/**
 * Writes the file `name`, which appears complete and durable or not at all. Rejects with the system's errors.
 * @param aside the name under which it is written
 */
export async function writeWhole(
  files: Files,
  name: string,
  bytes: Uint8Array,
  aside: string = name + UNFINISHED,
): Promise<void> {
  try {
    const file = await files.create(aside);
    try {
      await file.write(bytes, bytes.length, 0);
      await file.sync();
    } finally {
      await file.close();
    }
    await files.rename(aside, name);
  } catch (error) {
    await files.remove(aside).catch(() => undefined);
    throw error;
  }
  await files.sync();
}
