/**
 * Reads files that others could have put there: cluster, key and configuration files, backups, results of benches, and
 * the small files of a data directory.
 *
 * The rule: the path may lead to anything, and reading it neither hangs nor takes more memory than the caller allows. A
 * FIFO without a writer would block the event loop of a replica that reads its keys again, and a device never ends. So
 * the file is opened without waiting, has to be a regular file, and is read up to a bound, whatever its size says.
 */
import { closeSync, constants, fstatSync, openSync, readSync, type Stats } from 'node:fs';

/** Most bytes of a file that a person writes or could read: configuration, keys. */
const TEXT_BYTES_MAX = 1 << 20;

/** The first buffer, if the file does not say how long it is (/proc). */
const CHUNK_BYTES = 1 << 16;

/**
 * The whole content. Throws the system's errors, or an Error whose message says in a few words why the file is not read.
 * @param check looks at the open file before its content is read: the name may belong to another file by then
 */
export function readRegularFile(path: string, bytesMax: number, check?: (file: Stats) => void): Buffer {
  const fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOCTTY);
  try {
    const stat = fstatSync(fd);
    if (!stat.isFile()) throw new Error(`it is ${kindOf(stat)}, not a regular file`);
    if (stat.size > bytesMax) throw tooLong(bytesMax, stat.size);
    check?.(stat);
    let bytes = Buffer.allocUnsafe(stat.size === 0 ? Math.min(CHUNK_BYTES, bytesMax + 1) : stat.size + 1);
    for (let length = 0; ; ) {
      const read = readSync(fd, bytes, length, bytes.length - length, null);
      length += read;
      if (length > bytesMax) throw tooLong(bytesMax);
      if (read === 0) return bytes.subarray(0, length);
      if (length < bytes.length) continue;
      const longer = Buffer.allocUnsafe(Math.min(2 * length, bytesMax + 1));
      bytes.copy(longer);
      bytes = longer;
    }
  } finally {
    closeSync(fd);
  }
}

/** `readRegularFile` for text in UTF-8. */
export function readRegularText(
  path: string,
  check?: (file: Stats) => void,
  bytesMax: number = TEXT_BYTES_MAX,
): string {
  return readRegularFile(path, bytesMax, check).toString('utf8');
}

function tooLong(bytesMax: number, bytes?: number): Error {
  return new Error(`it has ${bytes === undefined ? 'too many' : bytes} bytes: at most ${bytesMax} are read`);
}

/** What a file is that is not regular, for messages. */
export function kindOf(file: Stats): string {
  if (file.isDirectory()) return 'a directory';
  if (file.isFIFO()) return 'a FIFO';
  if (file.isSocket()) return 'a socket';
  return 'a device';
}
