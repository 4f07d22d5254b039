/**
 * Routing traces made by hand.
 * @module
 */
import type { LayerTrace, RoutingTrace } from '../../src/analyze/index.js';

/** A layer from its choices `[tokens][topK]`; gates are 1 and a chosen expert has probability 0.7 unless given. */
export function layerOf(
  name: string,
  numExperts: number,
  choices: readonly (readonly number[])[],
  probabilities?: readonly (readonly number[])[],
  firstExpert = 0,
): LayerTrace {
  const flat = choices.flat();
  const guessed = choices.map(([first]) =>
    Array.from({ length: numExperts }, (_, e) => (e === first ? 0.7 : 0.3 / Math.max(1, numExperts - 1))),
  );
  return {
    name,
    layerIndex: Number.parseInt(name, 10),
    numExperts,
    firstExpert,
    topK: choices[0].length,
    experts: Int32Array.from(flat),
    gates: new Float32Array(flat.length).fill(1),
    probabilities: Float32Array.from((probabilities ?? guessed).flat()),
  };
}

/** A trace of layers over the same tokens, in sequences of `rowLength` and batches of two sequences. */
export function traceOf(layers: readonly LayerTrace[], rowLength: number, tokens?: Int32Array): RoutingTrace {
  const count = layers[0].experts.length / layers[0].topK;
  const at = (value: (token: number) => number): Int32Array =>
    Int32Array.from({ length: count }, (_, t) => value(t));
  return {
    tokens: tokens ?? at((t) => t),
    rows: at((t) => Math.floor(t / rowLength)),
    positions: at((t) => t % rowLength),
    batches: at((t) => Math.floor(t / rowLength / 2)),
    layers,
  };
}
