/**
 * What a layer did on some text, for the methods that look at more than weights.
 * @module
 */

/** Statistics of one layer over the tokens of a text. */
export interface LayerCalibration {
  /** Tokens that were sent to each expert, `[numExperts]`. */
  readonly tokensOf: readonly number[];
  /** Per expert and input feature, √Σ x² over the tokens sent to it: `[hiddenSize]` each. */
  readonly inputNorms: readonly Float32Array[];
  /** Per expert and inner neuron, √Σ h² over the tokens sent to it, h being what the second matrix reads. */
  readonly hiddenNorms: readonly Float32Array[];
  /** What the router scored before any softmax, `[tokens, numExperts]`. */
  readonly routerLogits: Float32Array;
}
