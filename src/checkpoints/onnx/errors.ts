/**
 * Why an ONNX model was not written or not taken.
 * @module
 */

/** A model that cannot be exported, or a file that is no sound model; the message is one line that names file and part. */
export class OnnxError extends Error {
  override readonly name = 'OnnxError';

  constructor(
    /** Path of the file or folder. */
    readonly file: string,
    reason: string,
    options?: ErrorOptions,
  ) {
    super(`${file}: ${reason}`, options);
  }
}
