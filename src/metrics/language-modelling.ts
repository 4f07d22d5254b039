/**
 * Measures of language models.
 * @module
 */

/** `e^loss`: how many tokens the model hesitates between. `loss` is a mean in nats per token. */
export function perplexity(loss: number): number {
  return Math.exp(loss);
}

/**
 * Bits that the model needs per byte of text: comparable between tokenizers.
 * @param totalLoss nats, summed over all predicted tokens
 * @param bytes UTF-8 bytes of the predicted text
 */
export function bitsPerByte(totalLoss: number, bytes: number): number {
  return bytes === 0 ? 0 : totalLoss / Math.LN2 / bytes;
}
