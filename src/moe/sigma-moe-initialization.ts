/**
 * How σ-MoE starts its weights (arXiv 2310.10837 §5 "Initialization"): as the dense network that it stands for would.
 * @module
 */
import { normal, type Initializer } from '../nn/index.js';

/** `N(0, c² / fanIn)` with `c = √(2 / numLayers)`, for pre-norm models of `numLayers` blocks. */
export function depthScaledNormal(numLayers: number, fanIn: number): Initializer {
  return normal(Math.sqrt(2 / (numLayers * fanIn)));
}

/**
 * A matrix whose rows all have the same norm, so that at first only their angles choose, and whose elements spread as
 * they did before.
 *
 * @param columns length of a row
 */
export function equalRowNorms(initializer: Initializer, columns: number): Initializer {
  return (key, out) => {
    initializer(key, out);
    const spread = deviation(out);
    for (let start = 0; start < out.length; start += columns) {
      const row = out.subarray(start, start + columns);
      const norm = Math.hypot(...row);
      for (let i = 0; i < columns; i++) row[i] /= norm;
    }
    const now = deviation(out);
    // A single number, or equal ones, have no spread to restore.
    if (now > 0) for (let i = 0; i < out.length; i++) out[i] *= spread / now;
  };
}

/** How a router of the σ-MoE family starts: its logits as spread as those of the experts' first layer. */
export function sigmaMoeClassifier(numLayers: number, hiddenSize: number): Initializer {
  return equalRowNorms(depthScaledNormal(numLayers, hiddenSize), hiddenSize);
}

function deviation(numbers: Iterable<number>): number {
  let [count, total, squares] = [0, 0, 0];
  for (const value of numbers) {
    count++;
    total += value;
    squares += value * value;
  }
  return Math.sqrt(squares / count - (total / count) ** 2);
}
