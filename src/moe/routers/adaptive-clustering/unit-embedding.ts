/**
 * The gate of the Adaptive Clustering language models: products with expert embeddings of length one.
 * @module
 */
import {
  divide,
  equal,
  fill,
  matmul,
  maximum,
  min,
  softmax,
  sqrt,
  square,
  stopGradient,
  subtract,
  sum,
  topK as largest,
  where,
  type Tensor,
} from '../../../graph/index.js';
import { fillNormal, Module, Parameter, type Initializer, type StateUpdate } from '../../../nn/index.js';
import type { FeedForwardContext } from '../../feed-forward.js';
import { balanceLoss } from '../../losses.js';
import type { Router, Routing } from '../../router.js';

/** Settings of {@link UnitEmbeddingRouter}. */
export interface UnitEmbeddingOptions {
  readonly hiddenSize: number;
  readonly numExperts: number;
  readonly topK: number;
  readonly balanceCoefficient: number;
}

/** Length at which embeddings are kept. Logits do not depend on it, only how far a step of the optimiser turns one. */
const storedLength = 1.5;

/**
 * `z_j = x · e_j / max(‖e_j‖, 10⁻⁴)`; the k largest, with a softmax over those k as gates. The input is not normalised,
 * and there is neither bias nor temperature. Logits that are not finite count as the smallest finite one of the token
 * (in the release: of all tokens, which would tell a token about others).
 *
 * Every ‖e_j‖ starts at 1.5 and is brought back to it, without a gradient, after each update of the weights; the release
 * does so before each forward pass.
 */
export class UnitEmbeddingRouter extends Module implements Router {
  readonly embeddings: Parameter;

  constructor(private readonly options: UnitEmbeddingOptions) {
    super();
    const { numExperts, hiddenSize } = options;
    this.embeddings = new Parameter([numExperts, hiddenSize], orthogonal(numExperts, hiddenSize));
  }

  get numExperts(): number {
    return this.options.numExperts;
  }

  get topK(): number {
    return this.options.topK;
  }

  route(hidden: Tensor, { tokenMask, training }: FeedForwardContext): Routing {
    const { topK, balanceCoefficient } = this.options;
    const embeddings = this.embeddings.tensor;
    const unit = divide(embeddings, maximum(sqrt(sum(square(embeddings), 1, true)), 1e-4));
    const logits = finite(matmul(hidden, unit, { transposeB: true }));
    const { values, indices: experts } = largest(logits, topK);
    const probabilities = softmax(logits);
    const balance = balanceLoss(probabilities, experts, tokenMask);
    return {
      experts,
      gates: softmax(values),
      probabilities,
      losses: [{ name: 'balance', coefficient: balanceCoefficient, value: balance }],
      updates: training ? [this.restoreLengths(hidden)] : [],
    };
  }

  private restoreLengths({ dtype }: Tensor): StateUpdate {
    const { hiddenSize, numExperts } = this.options;
    return {
      parameter: this.embeddings,
      observation: fill(dtype, [1], 0),
      apply: (rows) => {
        for (let expert = 0; expert < numExperts; expert++) {
          scaleTo(rows.subarray(expert * hiddenSize, (expert + 1) * hiddenSize), storedLength);
        }
      },
    };
  }
}

function finite(logits: Tensor): Tensor {
  // Infinity − infinity is no number, and no number equals nothing.
  const isFinite = equal(subtract(logits, logits), 0);
  const smallest = min(where(isFinite, stopGradient(logits), 1e30), 1, true);
  return where(isFinite, logits, smallest);
}

/**
 * Orthogonal rows, or orthogonal columns where there are more rows than columns, each row then brought to
 * {@link storedLength}: Gram–Schmidt on normal numbers.
 */
function orthogonal(rows: number, columns: number): Initializer {
  return (key, out) => {
    const [count, length] = rows <= columns ? [rows, columns] : [columns, rows];
    const draws = new Float64Array(count * length);
    fillNormal(key, draws);
    const vectors: Float64Array[] = [];
    for (let i = 0; i < count; i++) {
      const vector = draws.subarray(i * length, (i + 1) * length);
      // Twice is enough: what rounding leaves of the others after one pass goes in the second.
      for (const other of [...vectors, ...vectors]) {
        const along = vector.reduce((total, value, j) => total + value * other[j], 0);
        vector.forEach((value, j) => (vector[j] = value - along * other[j]));
      }
      scaleTo(vector, 1);
      vectors.push(vector);
    }
    for (let row = 0; row < rows; row++) {
      const values = Float64Array.from({ length: columns }, (_, column) =>
        rows <= columns ? vectors[row][column] : vectors[column][row],
      );
      out.set(scaleTo(values, storedLength), row * columns);
    }
  };
}

function scaleTo<Numbers extends Float32Array | Float64Array>(vector: Numbers, length: number): Numbers {
  const factor = length / Math.hypot(...vector);
  for (let i = 0; i < vector.length; i++) vector[i] *= factor;
  return vector;
}
