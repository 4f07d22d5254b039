/**
 * Fourth socket: one output per token from those of its experts.
 * @module
 */
import { multiply, reshape, sum, type Tensor } from '../graph/index.js';

/** `[tokens, topK, hiddenSize]` and gates `[tokens, topK]` → `[tokens, hiddenSize]` */
export type Combine = (outputs: Tensor, gates: Tensor) => Tensor;

/** `y_t = Σ_k g_tk · E_{e_tk}(x_t)` (Switch Transformer eq. 2; every system we implement uses it). */
export const weightedSum: Combine = (outputs, gates) => {
  const [tokens, topK, hiddenSize] = outputs.shape;
  const weighted = multiply(outputs, reshape(gates, [...gates.shape, 1]));
  return topK === 1 ? reshape(weighted, [tokens, hiddenSize]) : sum(weighted, 1);
};
