/**
 * Linear maps, embeddings, normalisation and dropout.
 * @module
 */
import {
  add,
  cast,
  gather,
  greaterEqual,
  layerNorm,
  matmul,
  multiply,
  reshape,
  rmsNorm,
  type Shape,
  type Tensor,
} from '../graph/index.js';
import type { TraceContext } from './context.js';
import { ones, zeros, type Initializer } from './initializers.js';
import { Module, Parameter } from './module.js';

/** `y = x Wᵀ + b`. The weight is `[outSize, inSize]`, as in PyTorch and its checkpoints. */
export class Linear extends Module {
  readonly weight: Parameter;
  readonly bias: Parameter | undefined;

  /** `bias`: whether there is one, starting at 0; or how it starts. */
  constructor(
    inSize: number,
    outSize: number,
    weight: Initializer,
    { bias = false }: { bias?: boolean | Initializer } = {},
  ) {
    super();
    this.weight = new Parameter([outSize, inSize], weight);
    this.bias = bias ? new Parameter([outSize], bias === true ? zeros : bias) : undefined;
  }

  /** `[..., inSize]` → `[..., outSize]` */
  forward(x: Tensor): Tensor {
    const y = applyWeight(x, this.weight.tensor);
    return this.bias ? add(y, this.bias.tensor) : y;
  }
}

/** `x Wᵀ` as one matrix product over all leading axes: `[..., inSize]`, `[outSize, inSize]` → `[..., outSize]`. */
export function applyWeight(x: Tensor, weight: Tensor): Tensor {
  const [outSize, inSize] = weight.shape;
  const rows = x.rank === 2 ? x : reshape(x, [-1, inSize]);
  const y = matmul(rows, weight, { transposeB: true });
  const shape: Shape = [...x.shape.slice(0, -1), outSize];
  return reshape(y, shape);
}

/** A table of vectors, one per id. */
export class Embedding extends Module {
  readonly weight: Parameter;

  constructor(count: number, size: number, initializer: Initializer) {
    super();
    this.weight = new Parameter([count, size], initializer);
  }

  /** int32 ids `[...]` → `[..., size]` */
  forward(ids: Tensor): Tensor {
    return gather(this.weight.tensor, ids);
  }

  /** Scores of all ids, with the same table (a tied output): `[..., size]` → `[..., count]` */
  logits(x: Tensor): Tensor {
    return applyWeight(x, this.weight.tensor);
  }
}

/** Root-mean-square normalisation (T5, Llama). */
export class RMSNorm extends Module {
  readonly weight: Parameter;

  constructor(
    size: number,
    readonly epsilon = 1e-6,
  ) {
    super();
    this.weight = new Parameter([size], ones);
  }

  /** `[..., size]` → the same shape */
  forward(x: Tensor): Tensor {
    return rmsNorm(x, this.weight.tensor, this.epsilon);
  }
}

/** Layer normalisation (GPT-2). */
export class LayerNorm extends Module {
  readonly weight: Parameter;
  readonly bias: Parameter;

  constructor(
    size: number,
    readonly epsilon = 1e-5,
  ) {
    super();
    this.weight = new Parameter([size], ones);
    this.bias = new Parameter([size], zeros);
  }

  /** `[..., size]` → the same shape */
  forward(x: Tensor): Tensor {
    return layerNorm(x, this.weight.tensor, this.bias.tensor, this.epsilon);
  }
}

/**
 * Sets each element to 0 with probability `rate` and scales the others by 1 / (1 − rate); the identity outside
 * training. The mask is a pure function of (seed, step, site).
 *
 * @param site a name that no other noise of the program has.
 * @throws RangeError if the rate is not in [0, 1).
 */
export function dropout(x: Tensor, rate: number, site: string, context: TraceContext): Tensor {
  if (!(rate >= 0 && rate < 1)) throw new RangeError(`dropout ${rate} at '${site}' is not in [0, 1)`);
  if (!context.training || rate === 0) return x;
  const noise = context.noise.request(site, 'uniform', x.dtype, x.shape as number[]);
  const mask = multiply(cast(greaterEqual(noise, rate), x.dtype), 1 / (1 - rate));
  return multiply(x, mask);
}
