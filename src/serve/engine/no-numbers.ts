/**
 * A model whose numbers say nothing: NaN, or all of them infinite.
 * @module
 */
import { EngineUnavailableError } from '../engine-errors.js';

/**
 * The error of the one request that was given them.
 * @param text which of its texts
 * @param found what is wrong
 */
export function noNumbers(text: string, found: string): EngineUnavailableError {
  return new EngineUnavailableError(`the model gave no numbers for ${text}: ${found}`);
}
