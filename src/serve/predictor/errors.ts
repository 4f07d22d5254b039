/**
 * Why a predictor or a recording was refused.
 * @module
 */

/** A predictor folder or a recording that is damaged, or belongs to another model; the message is one line. */
export class PredictorError extends Error {
  override readonly name = 'PredictorError';
}
