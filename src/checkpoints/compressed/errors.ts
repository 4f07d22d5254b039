/**
 * Why a compressed checkpoint was refused.
 * @module
 */

/** A compressed checkpoint that contradicts itself; the message is one line that names the file, and the tensor or key. */
export class CompressedFormatError extends Error {
  override readonly name = 'CompressedFormatError';

  constructor(
    /** Path of the file or folder. */
    readonly file: string,
    reason: string,
    options?: ErrorOptions,
  ) {
    super(`${file}: ${reason}`, options);
  }
}
