import { readFileSync } from 'node:fs';

let known: string | undefined;

/** The version of the package, from its package.json beside `dist/`; read once. */
export function version(): string {
  known ??= (JSON.parse(readFileSync(new URL('../../../package.json', import.meta.url), 'utf8')) as { version: string }).version;
  return known;
}
