/**
 * Gates that add up to 1.
 * @module
 */
import { add, divide, sum, type Tensor } from '../../graph/index.js';

/** Each token's gates divided by their sum, where that is not 0: `[tokens, topK]` → the same shape. */
export function normalizedGates(gates: Tensor): Tensor {
  return divide(gates, add(sum(gates, 1, true), 1e-9));
}
