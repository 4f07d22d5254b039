/**
 * SiDA's data-aware hash function: from token embeddings alone, the experts of every token in every layer
 * (Du et al., MLSys 2024, arXiv 2310.18859).
 * @module
 */
import {
  add,
  greater,
  greaterEqual,
  logicalAnd,
  matmul,
  range,
  relu,
  reshape,
  transpose,
  where,
  type Tensor,
} from '../../graph/index.js';
import { Linear, Module, uniform } from '../../nn/index.js';
import { Lstm } from './lstm.js';
import type { PredictorOptions } from './options.js';
import { sparsemax } from './sparsemax.js';

/** A score that no real one comes near: states lie in (−1, 1). */
const MASKED = -1e9;

/** A linear map that starts as PyTorch's. */
function linear(inSize: number, outSize: number): Linear {
  const start = uniform(1 / Math.sqrt(inSize));
  return new Linear(inSize, outSize, start, { bias: start });
}

/**
 * Compression `Z = ReLU(X W + b)`, LSTM layers, attention of their states `H` over themselves with SparseMax and without
 * projections, the residual `Z W + b`, and one linear head a layer. The residual joins before the heads, because the token
 * itself says most.
 */
export class RoutingPredictor extends Module {
  readonly compression: Linear;
  readonly recurrent: readonly Lstm[];
  readonly residual: Linear;
  readonly heads: readonly Linear[];

  constructor(readonly options: PredictorOptions) {
    super();
    const { embeddingSize, hiddenSize, recurrentLayers, layers } = options;
    this.compression = linear(embeddingSize, hiddenSize);
    this.recurrent = Array.from({ length: recurrentLayers }, () => new Lstm(hiddenSize, hiddenSize));
    this.residual = linear(hiddenSize, hiddenSize);
    this.heads = layers.map(({ numExperts }) => linear(hiddenSize, numExperts));
  }

  /**
   * @param embedded `[batch, time, embeddingSize]` with static sizes: what the model's first block reads.
   * @param mask float `[batch, time]`: 1 for tokens, 0 for padding behind them, which then changes nothing. Without it
   *   padding takes part, as in the released code.
   * @returns logits `[batch · time, numExperts]`, one a layer
   */
  forward(embedded: Tensor, mask?: Tensor): readonly Tensor[] {
    const [batch, time] = embedded.shape as [number, number];
    const { hiddenSize, attention } = this.options;
    const compressed = relu(this.compression.forward(embedded));
    let states = transpose(compressed, [1, 0, 2]);
    for (const layer of this.recurrent) states = layer.forward(states);
    states = transpose(states, [1, 0, 2]);
    const context = attention === 'none' ? states : this.attend(states, mask);
    const joined = add(context, this.residual.forward(compressed));
    const rows = reshape(joined, [batch * time, hiddenSize]);
    return this.heads.map((head) => head.forward(rows));
  }

  /** `SparseMax(H Hᵀ) H`: `[batch, time, hiddenSize]` → the same shape */
  private attend(states: Tensor, mask: Tensor | undefined): Tensor {
    const [batch, time] = states.shape as [number, number];
    let scores = matmul(states, states, { transposeB: true });
    const seen = mask && greater(reshape(mask, [batch, 1, time]), 0);
    const past = this.options.causal
      ? greaterEqual(reshape(range(time), [time, 1]), reshape(range(time), [1, time]))
      : undefined;
    const allowed = seen && past ? logicalAnd(seen, past) : (seen ?? past);
    if (allowed) scores = where(allowed, scores, MASKED);
    return matmul(sparsemax(scores, this.options.sparsemax), states);
  }
}
