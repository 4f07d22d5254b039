/**
 * What the operating system refused, in words.
 * @module
 */

const words = new Map<string, string>([
  ['EACCES', 'permission denied'],
  ['EDQUOT', 'the disk quota is used up'],
  ['EEXIST', 'it exists already'],
  ['EIO', 'the disk reports an input/output error'],
  ['EISDIR', 'it is a folder'],
  ['EMFILE', 'too many open files'],
  ['ENOENT', 'there is no such file or folder'],
  ['ENOSPC', 'no space left on the device'],
  ['ENOTDIR', 'a part of the path is not a folder'],
  ['EPERM', 'operation not permitted'],
  ['EROFS', 'the file system is read-only'],
]);

/** The code of a system error such as `ENOSPC`; `undefined` for other values. */
export function systemCode(error: unknown): string | undefined {
  const code = error instanceof Error ? (error as NodeJS.ErrnoException).code : undefined;
  return typeof code === 'string' && /^E[A-Z0-9]+$/.test(code) ? code : undefined;
}

/** One line for an error of a file operation: `no space left on the device (ENOSPC)`. */
export function explain(error: unknown): string {
  const code = systemCode(error);
  const text = code && words.get(code);
  if (text) return `${text} (${code})`;
  return error instanceof Error ? error.message : String(error);
}
