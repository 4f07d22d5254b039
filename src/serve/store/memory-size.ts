/**
 * Amounts of memory as people write them.
 * @module
 */

const units = new Map<string, number>([
  ['', 1],
  ['b', 1],
  ...['k', 'm', 'g', 't'].flatMap((letter, i): [string, number][] => [
    [letter, 1000 ** (i + 1)],
    [`${letter}b`, 1000 ** (i + 1)],
    [`${letter}ib`, 1024 ** (i + 1)],
  ]),
]);

/**
 * Bytes of `2GB`, `1.5 GiB`, `800M` or `123456`. GB are powers of 1000, GiB of 1024; case does not count.
 * @throws RangeError if the text is no amount above 0 that a computer can have.
 */
export function parseBytes(text: string): number {
  const [, digits, unit] = /^\s*(\d+(?:\.\d+)?|\.\d+)\s*([a-z]*)\s*$/i.exec(text) ?? [];
  const scale = unit === undefined ? undefined : units.get(unit.toLowerCase());
  const bytes = scale === undefined ? NaN : Math.floor(Number(digits) * scale);
  if (!(bytes >= 1 && bytes <= 2 ** 50))
    throw new RangeError(`'${text}' is no amount of memory; write it as 800MB, 2GB or 1.5GiB`);
  return bytes;
}

/** Bytes for people: `2.15 GB`. */
export function formatBytes(bytes: number): string {
  const size = Math.min(4, Math.max(0, Math.floor(Math.log10(Math.max(1, bytes)) / 3)));
  const scaled = bytes / 1000 ** size;
  const digits = size === 0 ? 0 : scaled < 10 ? 2 : scaled < 100 ? 1 : 0;
  return `${scaled.toFixed(digits)} ${['bytes', 'kB', 'MB', 'GB', 'TB'][size]}`;
}
