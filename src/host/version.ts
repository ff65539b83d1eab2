import { readFileSync } from 'node:fs';

/**
 * The oldest Node that this package runs on, as package.json says: the first one with Symbol.asyncDispose, which `await
 * using` needs.
 */
export const NODE_MIN = '20.4.0';

/** Takes a version such as 22.1.0. */
export function isOldNode(version: string): boolean {
  const [have, need] = [version, NODE_MIN].map((text) => text.split('.').map(Number));
  for (let i = 0; i < 3; i++) if (have![i] !== need![i]) return !(have![i]! > need![i]!);
  return false;
}

let known: string | undefined;

/** The version of the package, from its package.json beside `dist/`; read once. */
export function version(): string {
  known ??= (JSON.parse(readFileSync(new URL('../../../package.json', import.meta.url), 'utf8')) as { version: string })
    .version;
  return known;
}
